"""Starts a command as a careless program does: with a key in its session keyring.

python -I -S starter.py COMMAND...     KEY_NAME and KEY_SECRET in the environment
"""

import ctypes
import os
import sys

libc = ctypes.CDLL(None, use_errno=True)
x86 = os.uname().machine == "x86_64"
name, secret = os.environ.pop("KEY_NAME").encode(), os.environ.pop("KEY_SECRET").encode()
libc.syscall(250 if x86 else 219, 1, None)  # KEYCTL_JOIN_SESSION_KEYRING
if libc.syscall(248 if x86 else 217, b"user", name, secret, len(secret), -3) < 0:
    sys.exit("no key can be stored")
os.execvp(sys.argv[1], sys.argv[1:])
