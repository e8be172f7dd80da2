"""System calls that only this plan needs, through ctypes. Each raises OSError."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

_holding = ctypes.PyDLL(None, use_errno=True)
"""The same library, called without giving up the interpreter's lock: for a call that returns in two
processes."""
_holding.syscall.restype = ctypes.c_long

WALL = 0x40000000
"""__WALL: children with any exit signal. waitpid(2)"""

_SYS_CLONE = {"x86_64": 56, "aarch64": 220, "riscv64": 220}.get(os.uname().machine, -1)
_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277, "riscv64": 277}.get(os.uname().machine, -1)
_SYS_TGKILL = {"x86_64": 234, "aarch64": 131, "riscv64": 131}.get(os.uname().machine, -1)

_SECCOMP_SET_MODE_FILTER = 1
_NEW_LISTENER, _WAIT_KILLABLE_RECV = 1 << 3, 1 << 5

_SFD_NONBLOCK, _SFD_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_SIGINFO = struct.Struct("=IiiII108x")
"""The beginning of struct signalfd_siginfo, of 128 bytes: number, errno, code, pid, uid."""


def fork_unnoticed() -> int:
    """As os.fork(), for a child whose end sends its parent no signal.

    Such a child is waited for with __WALL only. The kernel gives every orphan the exit signal
    SIGCHLD. So a parent whose own children are all of this kind learns from a plain waitid(2),
    which says ECHILD, that it has no orphan of others: see `spawner`. clone(2), waitpid(2)
    """
    ctypes.pythonapi.PyOS_BeforeFork()
    zero = ctypes.c_ulong(0)
    child: int = _holding.syscall(ctypes.c_long(_SYS_CLONE), zero, zero, zero, zero, zero)
    if child == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    error = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if child < 0:
        raise OSError(error, f"clone: {os.strerror(error)}")
    return child


class Sent(NamedTuple):
    """A signal that has come. code: SI_USER (0) for kill(2) and for a pidfd; only the kernel can
    say 0 or more to another process, so then `sender` is true. sigqueue(3)"""

    number: int
    code: int
    sender: int


def signal_descriptor(numbers: Iterable[int]) -> int:
    """A descriptor from which signals are read, which must be blocked. signalfd(2)"""
    mask = sum(1 << (number - 1) for number in numbers)
    # libc's sigset_t has 128 bytes or fewer; what lies beyond the kernel's 8 is not read.
    buffer = ctypes.create_string_buffer(struct.pack("=Q", mask), 128)
    fd: int = _libc.signalfd(-1, buffer, _SFD_NONBLOCK | _SFD_CLOEXEC)
    if fd < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"signalfd: {os.strerror(error)}")
    return fd


def read_signals(descriptor: int) -> list[Sent]:
    """The signals that have come since the last time."""
    try:
        data = os.read(descriptor, 16 * _SIGINFO.size)
    except BlockingIOError:
        return []
    return [Sent(number, code, sender) for number, _, code, sender, _ in _SIGINFO.iter_unpack(data)]


def signal_thread(process: int, thread: int, number: int) -> None:
    """A signal to a thread of a process. tgkill(2)"""
    if _libc.syscall(ctypes.c_long(_SYS_TGKILL), process, thread, number) < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"tgkill: {os.strerror(error)}")


def filter_with_listener(address: int) -> int:
    """Load a filter of system calls and return the descriptor that hears of its notifications.

    address: of a struct sock_fprog. EBUSY: a filter of this process has a listener already.
    seccomp(2), seccomp_unotify(2)
    """
    # Without the second flag, from before Linux 5.19, a signal may make a caller begin anew.
    for flags in (_NEW_LISTENER | _WAIT_KILLABLE_RECV, _NEW_LISTENER):
        fd: int = _libc.syscall(
            ctypes.c_long(_SYS_SECCOMP),
            ctypes.c_ulong(_SECCOMP_SET_MODE_FILTER),
            ctypes.c_ulong(flags),
            ctypes.c_void_p(address),
        )
        if fd >= 0:
            os.set_inheritable(fd, False)
            return fd
        error = ctypes.get_errno()
        if error != 22:  # EINVAL: a flag is not known
            break
    raise OSError(error, f"seccomp: {os.strerror(error)}")
