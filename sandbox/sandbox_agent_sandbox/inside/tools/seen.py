"""A file as it was found, to see whether it is still the same when it is written."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sandbox_agent_ipc.token import CancelToken

FLAGS = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
"""For open(2) of a file in a hostile folder: follows nothing, waits for nothing."""

_LABELS = {"security.selinux"}
"""Extended attributes that a new file gets by itself."""


class Changed(Exception):
    """The file is not the one that was looked at, or has another content. Look again."""


PATIENCE = 0.5
"""Seconds to wait for a program that has the file open. Most close it at once. While it is open,
what they write can be lost."""


class Busy(Exception):
    """Another program has the file open. Try again."""


class Seen(NamedTuple):
    """A file as it was found. fd: locked, and readable where the file is. waited: seconds so far
    for programs that have it open."""

    fd: int
    status: os.stat_result
    waited: float

    @property
    def inode(self) -> tuple[int, int]:
        """As `inode_of`."""
        return self.status.st_dev, self.status.st_ino

    def is_unchanged(self, content: bytes | None) -> bool:
        """Whether the file still has this content, None being any, and its owner, mode and number
        of names."""
        was, now = self.status, os.fstat(self.fd)
        return (was.st_mode, was.st_uid, was.st_gid, was.st_nlink) == (
            now.st_mode,
            now.st_uid,
            now.st_gid,
            now.st_nlink,
        ) and is_content(self.fd, content)


def inode_of(folder: int, name: str) -> tuple[int, int] | None:
    """The device and inode that a name in a folder stands for, links not followed; None for no such
    name."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def extended_attributes(fd: int) -> set[str]:
    """The names of a file's extended attributes; an ACL is one. xattr(7)"""
    try:
        return set(os.listxattr(fd)) - _LABELS
    except OSError:
        return set()


def take_lease(fd: int, kind: int) -> bool | None:
    """Take a lease, fcntl(2): whoever opens the file in a way that it forbids waits until it ends,
    at the latest with the descriptor.

    kind: F_RDLCK, on a descriptor that only reads, forbids writing. F_WRLCK forbids all. False:
    another descriptor is open that the lease would forbid. None: that cannot be known here, because
    the file system has no leases, or the descriptor does not fit.
    """
    if kind == fcntl.F_RDLCK and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
        return None  # the file cannot be read; this descriptor is itself one for writing
    try:
        # In place of SIGIO, which would end this process. SIGURG is ignored, see worker.main.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, kind)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def lease_holds(fd: int) -> bool:
    """Whether nobody waits for the end of the read lease."""
    return fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK


def lock(fd: int, patience: float, token: CancelToken) -> None:
    """Lock the file against tools of other runs, flock(2). Raises TimeoutError when another program
    has held the lock for `patience` seconds, and Cancelled at the flag."""
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError from None
            token.wait(0.005)
            token.raise_if_cancelled()
        except OSError:
            return  # this file system has no locks; the comparison is left


def read_start(fd: int, limit: int) -> bytes:
    """The file's first `limit` bytes, or all of it. Does not move the descriptor's position."""
    data = bytearray()
    while len(data) < limit:
        piece = os.pread(fd, min(limit - len(data), 1 << 20), len(data))
        if not piece:
            break
        data += piece
    return bytes(data)


def is_content(fd: int, content: bytes | None) -> bool:
    """Whether the file still has this content; None is any."""
    return content is None or read_start(fd, len(content) + 1) == content


def write_at(fd: int, data: bytes) -> None:
    """Write data from the file's start on."""
    view, at = memoryview(data), 0
    while at < len(data):
        at += os.pwrite(fd, view[at:], at)


@contextmanager
def sigterm_later() -> Iterator[None]:
    """Hold SIGTERM back, whose handler raises: between a write and what makes it good, nothing may
    come. Takes as long as the disk needs."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        # It runs the handler of a signal that has come before, which raises.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
