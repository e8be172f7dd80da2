"""Segments of System V shared memory for the tools of one call, and for nobody else. shmget(2)

There is no ipc namespace, so a segment would be one of the user's: other programs could have it,
and it would stay after the call. So a thread of the supervisor makes each one, attaches it, and has
it removed at once: the kernel keeps it as long as somebody has it attached. The tools' keys are
looked up here, so the same key of another program is another segment.
"""

from __future__ import annotations

import _thread
import ctypes
import errno
import os

from sandbox_agent_sandbox.inside.unshared.view import notify
from sandbox_agent_sandbox.inside.unshared.view.notify import NUMBERS, Notification

_libc = ctypes.CDLL(None, use_errno=True)
_libc.shmat.restype = ctypes.c_void_p

_GET, _ATTACH, _CONTROL = (NUMBERS.get(name, -1) for name in ("shmget", "shmat", "shmctl"))
_PRIVATE = 0
_CREATE, _EXCLUSIVE, _MODE = 0o1000, 0o2000, 0o777
_HUGE = 0o4000
_REMOVE, _SET, _STAT, _INFO, _LOCK, _UNLOCK, _SHM_INFO = 0, 1, 2, 3, 11, 12, 14
_OF_ONE = frozenset((_SET, _STAT, _LOCK, _UNLOCK))
_READ_ONLY = 0o10000
_MOST = 256
"""Segments. The host has 4096 of them for all programs (kernel.shmmni)."""


class SharedMemory:
    """The segments of one call. For any thread.

    limit: bytes of all of them together; None for no limit.
    """

    def __init__(self, listener: int, limit: int | None) -> None:
        self._listener = listener
        self._limit = limit
        self._lock = _thread.allocate_lock()
        self._ids: dict[int, int] = {}
        """By key."""
        self._segments: dict[int, tuple[int, int]] = {}
        """By id: the address at which it is attached here, and its size."""

    def serve(self, asked: Notification) -> bool:
        """Carry out a call and answer it. False if it is not about shared memory. Raises OSError
        with the errno for the caller."""
        first = ctypes.c_int(asked.arguments[0] & 0xFFFFFFFF).value
        if asked.number == _GET:
            with self._lock:
                value = self._get(first, asked.arguments[1], asked.arguments[2] & 0xFFFFFFFF)
            notify.answer(self._listener, asked, value)
        elif asked.number == _ATTACH:
            self._check(first)
            notify.let_through(self._listener, asked)
        elif asked.number == _CONTROL:
            self._control(asked, first, asked.arguments[1] & 0xFF)
        else:
            return False
        return True

    def _check(self, segment: int) -> None:
        with self._lock:
            if segment not in self._segments:
                raise OSError(errno.EINVAL, "no segment of this call")

    def _get(self, key: int, size: int, flags: int) -> int:
        known = self._ids.get(key) if key != _PRIVATE else None
        if known is not None:
            if flags & _CREATE and flags & _EXCLUSIVE:
                raise OSError(errno.EEXIST, "exists")
            if size > self._segments[known][1]:
                raise OSError(errno.EINVAL, "too small")
            return known
        if key != _PRIVATE and not flags & _CREATE:
            raise OSError(errno.ENOENT, "no segment of this call")
        used = sum(one for _, one in self._segments.values())
        if self._limit is not None and size > self._limit - used:
            raise OSError(errno.ENOSPC, "limits.shm")
        if len(self._segments) >= _MOST:
            raise OSError(errno.ENOSPC, "too many")
        wanted = _CREATE | _EXCLUSIVE | (flags & (_MODE | _HUGE))
        segment = _checked(_libc.shmget(_PRIVATE, ctypes.c_size_t(size), wanted))
        address = _libc.shmat(segment, None, _READ_ONLY)
        number = ctypes.get_errno()
        _libc.shmctl(segment, _REMOVE, None)
        if address is None or address == ctypes.c_void_p(-1).value:
            raise OSError(number, os.strerror(number))
        self._segments[segment] = (address, size)
        if key != _PRIVATE:
            self._ids[key] = segment
        return segment

    def _control(self, asked: Notification, segment: int, command: int) -> None:
        if command in (_INFO, _SHM_INFO):
            notify.let_through(self._listener, asked)
            return
        self._check(segment)
        if command == _REMOVE:
            with self._lock:
                address, _ = self._segments.pop(segment)
                self._ids = {key: one for key, one in self._ids.items() if one != segment}
            _libc.shmdt(ctypes.c_void_p(address))
            notify.answer(self._listener, asked)
        elif command in _OF_ONE:
            notify.let_through(self._listener, asked)
        else:
            raise OSError(errno.EPERM, "it looks at segments of others")


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
