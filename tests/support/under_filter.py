"""Runs a command whose file operations a test may answer, by exec: the pid stays the command's own.

    python under_filter.py SOCKET READS -- COMMAND...

Installs a seccomp filter that asks a listener about each file operation, and sends the listener
through the socket with that number: seccomp_unotify(2). READS: `reads` to ask about reads too.
`faults` is the other side. Standard library only.
"""

from __future__ import annotations

import array
import ctypes
import os
import platform
import socket
import struct
import sys

ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NUMBERS = {
    "x86_64": {
        "write": 1, "pread64": 17, "pwrite64": 18, "ioctl": 16, "fsync": 74, "fdatasync": 75,
        "ftruncate": 77, "rename": 82, "mkdir": 83, "unlink": 87, "openat": 257, "mkdirat": 258,
        "mknodat": 259, "unlinkat": 263, "renameat": 264, "renameat2": 316,
    },
    "aarch64": {
        "write": 64, "pread64": 67, "pwrite64": 68, "ioctl": 29, "fsync": 82, "fdatasync": 83,
        "ftruncate": 46, "openat": 56, "mkdirat": 34, "mknodat": 33, "unlinkat": 35,
        "renameat": 38, "renameat2": 276,
    },
}  # fmt: skip
MACHINE = platform.machine()

RESERVE = 0x40305828  # FS_IOC_RESVSP
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

_LOAD, _JUMP_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ASK = 0x7FFF0000, 0x7FC00000
_SECCOMP = {"x86_64": 317, "aarch64": 277}


def program(reads: bool) -> bytes:
    """The filter: BPF over `struct seccomp_data`."""
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4),
        (_JUMP_EQUAL, 1, 0, ARCHES[MACHINE]),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, 0),
    ]
    for name, number in NUMBERS[MACHINE].items():
        if name == "pread64" and not reads:
            continue
        if name in ("openat", "ioctl"):
            # Of these only some matter: opened to write, and the reservation of room.
            argument, jump, value = (2, _JUMP_SET, WRITING) if name == "openat" else (
                1, _JUMP_EQUAL, RESERVE)  # fmt: skip
            if name == "openat" and reads:
                jump, value = _JUMP_SET, 0xFFFFFFFF
            code += [
                (_JUMP_EQUAL, 0, 4, number),
                (_LOAD, 0, 0, 16 + 8 * argument),
                (jump, 0, 1, value),
                (_RETURN, 0, 0, _ASK),
                (_RETURN, 0, 0, _ALLOW),
            ]
        else:
            code += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ASK)]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *one) for one in code)


def install(reads: bool) -> int:
    """Install the filter. Returns its listener."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "prctl")
    data = program(reads)
    buffer = ctypes.create_string_buffer(data, len(data))
    head = struct.pack("HxxxxxxP", len(data) // 8, ctypes.addressof(buffer))
    # SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER
    listener = libc.syscall(_SECCOMP[MACHINE], 1, 8, head)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return int(listener)


def main() -> None:
    reads, argv = sys.argv[2] == "reads", sys.argv[4:]
    channel = socket.socket(fileno=int(sys.argv[1]))
    listener = install(reads)
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))
    channel.sendmsg([b"x"], [rights])
    os.close(listener)
    channel.close()
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main()
