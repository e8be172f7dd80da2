"""A file as it was found, to see whether it is still the same when it is written."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

FLAGS = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
"""For open(2) of a file in a hostile folder: follows nothing, waits for nothing."""

_LABELS = {"security.selinux"}
"""Extended attributes that a new file gets by itself."""


class Changed(Exception):
    """The file is not the one that was looked at, or has another content. Look again."""


class Seen(NamedTuple):
    """A file as it was found. fd: locked, and readable where the file is."""

    fd: int
    status: os.stat_result

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
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
