"""Small programs that the host runs as the same user, to see what is left for it."""

from __future__ import annotations

import os
import sys

_BEGIN = (
    "import ctypes, os, signal, socket, struct, sys; libc = ctypes.CDLL(None, use_errno=True)\n"
)
_PROGRAMS = {
    # Exit code 9: the host cannot do it.
    "pipe": "import fcntl\nr, w = os.pipe()\nsys.exit(0 if fcntl.fcntl(w, 1032) == 65536 else 9)",
    # With the limit that most systems give. unix(7), ETOOMANYREFS
    "send_fds": """
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
a, b = socket.socketpair()
try:
    socket.send_fds(a, [b"x"], [1])
except OSError:
    sys.exit(9)
""",
    "sigqueue": """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
sys.exit(9 if libc.sigqueue(os.getpid(), signal.SIGRTMIN, None) else 0)
""",
    "inotify": "sys.exit(9 if libc.inotify_init() < 0 else 0)",
    "add_key": """
number = 248 if os.uname().machine == "x86_64" else 217
made = libc.syscall(number, b"user", b"of-the-host", b"x", 1, -2)
sys.exit(9 if made < 0 else 0)
""",
    "mq_open": """
attributes = struct.pack("4q", 0, 10, 8192, 0) + bytes(32)
number = 240 if os.uname().machine == "x86_64" else 180
name = b"walls-of-the-host-%d" % os.getpid()
made = libc.syscall(number, name, os.O_CREAT | os.O_RDWR, 0o600, attributes)
libc.syscall(number + 1, name)
sys.exit(9 if made < 0 else 0)
""",
}


def command(what: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", _BEGIN + _PROGRAMS[what]]


def forget_key(serial: int) -> list[str]:
    """Takes a key out of the user's keyring. keyctl(2), KEYCTL_UNLINK"""
    number = 250 if os.uname().machine == "x86_64" else 219
    text = f"ctypes.CDLL(None).syscall({number}, 9, {serial}, -4)"
    return [sys.executable, "-I", "-S", "-c", f"import ctypes; {text}"]


def own_module(sandboxed: bool) -> list[str]:
    """Our command by `python -m`; without a sandbox any program that imports the same module."""
    if sandboxed:
        return [sys.executable, "-m", "sandbox_agent", "exec", "--", "true"]
    return [sys.executable, "-c", "import msgspec"]
