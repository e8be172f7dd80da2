"""Overwriting a file: its inode stays, with all that hangs on it. A failure leaves the old content.

SIGKILL in the middle, though, can leave a part of each.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.tools.seen import (
    FLAGS,
    PATIENCE,
    Busy,
    Changed,
    Seen,
    extended_attributes,
    inode_of,
    is_content,
    read_start,
    sigterm_later,
    take_lease,
    write_at,
)
from sandbox_agent_sandbox.inside.worker.tool_result import ToolError


def reopen_alone(folder: int, name: str, seen: Seen) -> None:
    """Make `seen.fd` the one descriptor of this process for the file, open for writing. Its lock
    and its lease end; lock it again. Raises Busy while a program has the file open for writing."""
    if take_lease(seen.fd, fcntl.F_RDLCK) is False and seen.waited < PATIENCE:
        raise Busy
    with suppress(OSError):  # it would keep this process out, too
        fcntl.fcntl(seen.fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    fd = -1
    try:
        try:
            fd = os.open(name, os.O_RDWR | FLAGS, dir_fd=folder)
        except PermissionError:  # it cannot be read
            fd = os.open(name, os.O_WRONLY | FLAGS, dir_fd=folder)
        os.dup2(fd, seen.fd, inheritable=False)
    except FileNotFoundError:
        raise Changed from None
    finally:
        if fd >= 0:
            os.close(fd)


def write_in_place(
    folder: int, name: str, seen: Seen, old: bytes | None, data: bytes
) -> tuple[str, ...]:
    """Overwrite the file. A failure leaves the old content. Returns what was lost all the same."""
    # With this lease nobody opens the file before the end. While others have it open, it is
    # refused. What they write at this very moment can be lost.
    if take_lease(seen.fd, fcntl.F_WRLCK) is False and seen.waited < PATIENCE:
        raise Busy
    before, attributes = os.fstat(seen.fd), extended_attributes(seen.fd)
    if (before.st_dev, before.st_ino) != seen.inode or inode_of(folder, name) != seen.inode:
        raise Changed
    with sigterm_later():
        overwritten = _overwritten(seen.fd, old, len(data))
        if not is_content(seen.fd, old):
            raise Changed
        try:
            _reserve(seen.fd, len(data))
            write_at(seen.fd, data)
            os.ftruncate(seen.fd, len(data))
        except BaseException as error:
            _restore(seen.fd, overwritten, before.st_size, error)
            raise
    return tuple(_lost(seen.fd, before, attributes))


def _overwritten(fd: int, old: bytes | None, size: int) -> bytes | None:
    """The old content that `size` new bytes overwrite; None for a file that cannot be read."""
    if old is not None:
        return old[:size]
    try:
        return read_start(fd, size)
    except OSError:
        return None


def _reserve(fd: int, size: int) -> None:
    """Fail now, while the old content is whole, if the disk has no room for the new content."""
    try:
        if size:
            syscalls.reserve_space(fd, size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise


def _restore(fd: int, overwritten: bytes | None, size: int, error: BaseException) -> None:
    try:
        if overwritten is None:
            raise OSError(errno.EACCES, "the old content could not be read")
        write_at(fd, overwritten)
        os.ftruncate(fd, size)
    except OSError as second:
        raise ToolError(
            f"writing failed in the middle ({error}), and the old content could not be put back "
            f"({second.strerror}): the file is damaged"
        ) from error


def _lost(fd: int, before: os.stat_result, attributes: set[str]) -> Iterator[str]:
    """What the kernel takes from a file that is written to. chmod(2), capabilities(7)"""
    mode = stat.S_IMODE(before.st_mode)
    if os.fstat(fd).st_mode != before.st_mode:
        with suppress(OSError):
            os.fchmod(fd, mode)
        after = os.fstat(fd)
        if after.st_mode != before.st_mode:
            yield f"its mode {mode:o} is {stat.S_IMODE(after.st_mode):o} now"
    if gone := attributes - extended_attributes(fd):
        yield f"it lost {', '.join(sorted(gone))}"
