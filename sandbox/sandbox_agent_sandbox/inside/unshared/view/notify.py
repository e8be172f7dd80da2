"""System calls of tools that wait for an answer, as those who answer take them. seccomp_unotify(2)

Each function raises OSError; ENOENT: the caller has ended meanwhile.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from contextlib import suppress
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

NUMBERS = {
    "x86_64": {
        "ioctl": 16, "shmget": 29, "shmat": 30, "shmctl": 31, "socket": 41, "connect": 42,
        "bind": 49, "listen": 50, "open": 2, "openat": 257, "link": 86, "unlink": 87,
    },
    "aarch64": {
        "ioctl": 29, "shmget": 194, "shmat": 196, "shmctl": 195, "socket": 198, "connect": 203,
        "bind": 200, "listen": 201, "openat": 56, "linkat": 37, "unlinkat": 35,
    },
}.get(os.uname().machine, {})  # fmt: skip
"""Of the calls that the broker carries out. What libc makes of link(2) and unlink(2) differs."""

TIOCGPTPEER = 0x5441
"""The only request of ioctl(2) among them."""

_SYS_PIDFD_GETFD = 438
_SYS_PROCESS_VM_READV = {"x86_64": 310, "aarch64": 270}.get(os.uname().machine, -1)

_RECEIVE, _SEND, _IS_VALID, _ADD_FD = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103
_SET_FLAGS, _WAKE_AT_ONCE = 0x40082104, 1
"""SECCOMP_IOCTL_NOTIF_*."""
_CONTINUE = 1
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
"""struct seccomp_notif: id, thread, flags; number, architecture, instruction, six arguments."""
_RESPONSE = struct.Struct("=QqiI")
"""struct seccomp_notif_resp: id, value, error, flags."""
_ADDED = struct.Struct("=QIIII")
"""struct seccomp_notif_addfd: id, flags, fd, newfd, flags of the new one."""


class Notification(NamedTuple):
    """A system call that waits. thread: of the caller."""

    id: int
    thread: int
    number: int
    arguments: tuple[int, ...]


def wake_at_once(listener: int) -> None:
    """Have callers hand over their processor to who answers: SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP.
    Nothing before Linux 6.6."""
    with suppress(OSError):
        fcntl.ioctl(listener, _SET_FLAGS, _WAKE_AT_ONCE)


def receive(listener: int) -> Notification:
    """The next call that waits. Blocks until there is one."""
    buffer = bytearray(_NOTIFICATION.size)
    fcntl.ioctl(listener, _RECEIVE, buffer)
    ident, thread, _, number, _, _, *arguments = _NOTIFICATION.unpack(buffer)
    return Notification(ident, thread, number, tuple(arguments))


def answer(listener: int, asked: Notification, value: int = 0, error: int = 0) -> None:
    """End a call with a value, or with an errno. Nothing if the caller has ended meanwhile."""
    with suppress(OSError):
        fcntl.ioctl(listener, _SEND, _RESPONSE.pack(asked.id, value, -error, 0))


def let_through(listener: int, asked: Notification) -> None:
    """Have the kernel carry a call out. Only where its arguments are numbers: what lies behind a
    pointer may be something else by then."""
    with suppress(OSError):
        fcntl.ioctl(listener, _SEND, _RESPONSE.pack(asked.id, 0, 0, _CONTINUE))


def still_waits(listener: int, asked: Notification) -> bool:
    """Whether the caller still is the thread that has asked. To ask after each look at a process by
    its number: until then that number may have become another's."""
    try:
        fcntl.ioctl(listener, _IS_VALID, struct.pack("=Q", asked.id))
    except OSError:
        return False
    return True


def give(listener: int, asked: Notification, fd: int, *, cloexec: bool) -> int:
    """Open a descriptor in the caller, as a copy of one of this process's. Returns its number."""
    flags = os.O_CLOEXEC if cloexec else 0
    given = bytearray(_ADDED.pack(asked.id, 0, fd, 0, flags))
    number: int = fcntl.ioctl(listener, _ADD_FD, given)
    return number


def take(pidfd: int, fd: int) -> int:
    """A copy of a descriptor of another process. pidfd_getfd(2)"""
    return _checked(_libc.syscall(_SYS_PIDFD_GETFD, pidfd, fd, 0))


def read_memory(pid: int, address: int, size: int) -> bytes:
    """Copy the memory of another process, once. process_vm_readv(2)"""
    buffer = ctypes.create_string_buffer(size)
    here = struct.pack("=QQ", ctypes.addressof(buffer), size)
    there = struct.pack("=QQ", address, size)
    count = _checked(
        _libc.syscall(
            ctypes.c_long(_SYS_PROCESS_VM_READV),
            ctypes.c_long(pid),
            here,
            ctypes.c_ulong(1),
            there,
            ctypes.c_ulong(1),
            ctypes.c_ulong(0),
        )
    )
    return buffer.raw[:count]


def process_of(thread: int) -> int:
    """The process that a thread belongs to; -1 if it has ended."""
    try:
        with open(f"/proc/{thread}/status", encoding="utf-8", errors="replace") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Tgid:"))
    except (OSError, StopIteration):
        return -1


def umask_of(process: int) -> int:
    """The umask of a process; one that shuts out all others, if it has ended."""
    try:
        with open(f"/proc/{process}/status", encoding="utf-8", errors="replace") as file:
            return int(next(line.split()[1] for line in file if line.startswith("Umask:")), 8)
    except (OSError, StopIteration, ValueError):
        return 0o077


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
