"""Runs a command on a host that refuses namespaces and Landlock, by exec. Standard library only.

    python refuse.py [--KIND=NUMBER] COMMAND...

With an option, so many namespaces of that kind can be made, any number of the others, and Landlock
is there.

A user namespace of our own, in which none may be made below it: user_namespaces(7),
/proc/sys/user/max_*_namespaces in namespaces(7). The limits hold for this subtree only.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
LANDLOCK_CREATE_RULESET, ENOSYS = 444, 38


def main() -> None:
    uid, gid = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER):
        number = ctypes.get_errno()
        sys.exit(f"refuse.py: unshare: {os.strerror(number)}")
    # Our own ids, unchanged; as in a container whose namespaces somebody else made.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    command, limits = sys.argv[1:], {"user": "0", "mnt": "0", "pid": "0"}
    if command[0].startswith("--"):
        kind, _, number = command.pop(0)[2:].partition("=")
        limits = {kind: number}
    else:
        refuse_landlock(libc)
    for kind, number in limits.items():
        Path(f"/proc/sys/user/max_{kind}_namespaces").write_text(number)
    os.execvp(command[0], command)


def refuse_landlock(libc: ctypes.CDLL) -> None:
    """A filter of system calls, for which this process has the right in its own namespace."""
    lines = (
        (0x20, 0, 0, 0),
        (0x15, 0, 1, LANDLOCK_CREATE_RULESET),
        (0x06, 0, 0, 0x00050000 | ENOSYS),
        (0x06, 0, 0, 0x7FFF0000),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
    program = struct.pack("HxxxxxxQ", len(lines), ctypes.addressof(code))
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0):
        sys.exit(f"refuse.py: seccomp: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
