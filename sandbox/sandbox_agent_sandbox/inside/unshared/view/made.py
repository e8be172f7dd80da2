"""Sockets that are made for tools, where nobody may take one out of a process. pidfd_getfd(2) is
refused in containers with Docker's profile.

The supervisor makes each socket, gives the tool a copy, and keeps another until it is connected or
listens. Which of them a tool means is known by the inode that /proc shows for its descriptor.
"""

from __future__ import annotations

import _thread
import errno
import os
import socket
from collections import OrderedDict

from sandbox_agent_sandbox.inside.unshared.view import notify
from sandbox_agent_sandbox.inside.unshared.view.notify import Notification

_MOST = 256
"""Copies that are kept. A tool that makes more without using them loses the first ones."""
_LAST = 4096
_TYPE = 0xF


class Made:
    """Of one call. For any thread."""

    def __init__(self, listener: int) -> None:
        self._listener = listener
        self._lock = _thread.allocate_lock()
        self._kept: OrderedDict[int, int] = OrderedDict()
        """By inode."""
        self._used: OrderedDict[int, bool] = OrderedDict()
        """Inodes of those that listen or are connected, and whether they listen."""

    def make(self, asked: Notification) -> None:
        """Carry out socket(2)."""
        family, kind, protocol = (int(one & 0xFFFFFFFF) for one in asked.arguments[:3])
        made = socket.socket(family, kind & _TYPE, protocol)
        try:
            made.setblocking(not kind & socket.SOCK_NONBLOCK)
            cloexec = bool(kind & socket.SOCK_CLOEXEC)
            number = notify.give(self._listener, asked, made.fileno(), cloexec=cloexec)
            inode, fd = os.fstat(made.fileno()).st_ino, made.detach()
        finally:
            made.close()
        with self._lock:
            self._kept[inode] = fd
            gone = [self._kept.popitem(last=False)[1] for _ in range(len(self._kept) - _MOST)]
        for one in gone:
            os.close(one)
        notify.answer(self._listener, asked, number)

    def take(self, asked: Notification) -> int:
        """A copy of the socket that a caller means. Raises OSError with the errno for it."""
        inode = self._inode(asked)
        with self._lock:
            if inode in self._kept:
                return os.dup(self._kept[inode])
            known = inode in self._used
        # One of a pair, or one that is connected or listens.
        raise OSError(errno.EISCONN if known else errno.EINVAL, "not one to connect")

    def listens(self, asked: Notification) -> bool:
        """Whether the socket that a caller means listens already. To listen once more changes
        nothing but the length of the queue, and servers do that. listen(2)"""
        with self._lock:
            return self._used.get(self._inode(asked), False)

    @staticmethod
    def _inode(asked: Notification) -> int:
        try:
            link = os.readlink(f"/proc/{asked.thread}/fd/{asked.arguments[0] & 0x7FFFFFFF}")
        except FileNotFoundError:
            raise OSError(errno.EBADF, "no such descriptor") from None
        if not link.startswith("socket:["):
            raise OSError(errno.ENOTSOCK, "no socket")
        return int(link[len("socket:[") : -1])

    def used(self, fd: int, *, listens: bool) -> None:
        """A socket is connected now, or listens: nobody but the tools may hold it."""
        inode = os.fstat(fd).st_ino
        with self._lock:
            mine = self._kept.pop(inode, -1)
            self._used[inode] = listens
            while len(self._used) > _LAST:
                self._used.popitem(last=False)
        if mine >= 0:
            os.close(mine)
