"""Writing a text file whole, so that nothing is lost: no other program's change, and nothing that
belongs to the file besides its content.

Runs of other agents share the workspace and no memory. Their tools lock the file, flock(2), as this
does. `second_file` is the usual way to write, and notices programs that lock nothing. `in_place` is
for a file with other names (hard links), another owner, extended attributes or an ACL, or a program
that is writing to it: a second file would not have them.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import NamedTuple

from sandbox_agent_ipc.token import CancelToken

from sandbox_agent_sandbox.inside.tools.in_place import reopen_alone, write_in_place
from sandbox_agent_sandbox.inside.tools.second_file import create, replace
from sandbox_agent_sandbox.inside.tools.seen import (
    FLAGS,
    Busy,
    Changed,
    Seen,
    extended_attributes,
    inode_of,
    lock,
)
from sandbox_agent_sandbox.inside.tools.textfile import check_regular, explain_os_errors
from sandbox_agent_sandbox.inside.worker.tool_result import ToolError

LOCK_PATIENCE = 10.0
"""Seconds to wait for another program that holds a lock on the file."""
_ATTEMPTS = 200
_BUSY_PAUSE = 0.005
_LONGEST_PAUSE = 0.05
"""Seconds between two attempts, where the file is busy and where it was changed. All attempts
together take some 10 s."""

_NO_SECOND_FILE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV}
"""The folder is read-only, or the file is a mount point. Not a full disk: there, writing in place
would fail as well."""


class Written(NamedTuple):
    """path: where the content is, without links. notes: what a reader of the result should know."""

    path: str
    is_new: bool
    notes: tuple[str, ...] = ()


def write_whole(path: str, data: bytes, token: CancelToken) -> Written:
    """Create a file, or replace all of its content. Raises ToolError, and Cancelled at the flag."""
    return _until_unchanged(path, lambda _: (None, data), token, reads=False)


def edit_whole(
    path: str, read: Callable[[int], bytes], edit: Callable[[bytes], bytes], token: CancelToken
) -> Written:
    """Replace a file's content by what `edit` makes of it.

    When another program changes the file meanwhile, its new content is edited. So `edit` may be
    called more than once. read: gives the content of a descriptor. Raises ToolError, and Cancelled
    at the flag.
    """

    def make(fd: int) -> tuple[bytes, bytes]:
        old = read(fd)
        return old, edit(old)

    return _until_unchanged(path, make, token, reads=True)


_Make = Callable[[int], tuple[bytes | None, bytes]]
"""From a descriptor to the content that was read, None if it does not matter, and the new one."""


def _until_unchanged(path: str, make: _Make, token: CancelToken, *, reads: bool) -> Written:
    note: tuple[str, ...] = ()
    begun = time.monotonic()
    for attempt in range(_ATTEMPTS):
        token.raise_if_cancelled()
        waited = time.monotonic() - begun
        with explain_os_errors("write", path):
            try:
                written = _attempt(path, make, token, reads, waited)
            except (Changed, Busy, BlockingIOError) as reason:
                # BlockingIOError is open(2)'s: another program holds a lease.
                longest = _BUSY_PAUSE if isinstance(reason, Busy) else _LONGEST_PAUSE
                token.wait(min(0.001 * 2**attempt, longest))
                if isinstance(reason, Changed):
                    note = ("another program changed it meanwhile; this is made on its content",)
                continue
        return written._replace(notes=written.notes + (note if reads else ()))
    raise ToolError(
        f"cannot write {path!r}: {_ATTEMPTS} times another program changed it at the same moment; "
        "nothing was written"
    )


def _attempt(path: str, make: _Make, token: CancelToken, reads: bool, waited: float) -> Written:
    target = os.path.realpath(path)
    name = os.path.basename(target) or "."
    # By this descriptor from here on: the folder may be renamed meanwhile.
    folder = os.open(os.path.dirname(target), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    seen = None
    try:
        seen = _open(path, folder, name, reads, waited)
        if seen is None:
            if reads:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            create(folder, name, make(-1)[1])
            return Written(target, True)
        lock(seen.fd, LOCK_PATIENCE, token)
        if inode_of(folder, name) != seen.inode:
            raise Changed  # replaced by the one who had the lock
        old, data = make(seen.fd)
        return Written(target, False, _put(folder, name, seen, old, data, token))
    except TimeoutError:
        raise ToolError(
            f"cannot write {path!r}: another program has held a lock on it (flock) for "
            f"{LOCK_PATIENCE:g} s; nothing was written"
        ) from None
    finally:
        os.close(folder)
        if seen is not None:
            os.close(seen.fd)


def _open(path: str, folder: int, name: str, reads: bool, waited: float) -> Seen | None:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            os.stat(name, dir_fd=folder)  # raises for a circle of links
            raise Changed
        # Before it is opened: opening a FIFO or a device has effects.
        check_regular(path, status.st_mode)
        # A replacement needs no permission on the file itself; a read-only file stays as it is.
        if not os.access(name, os.W_OK, dir_fd=folder):
            raise ToolError(f"cannot write {path!r}: it is read-only")
        try:
            fd = os.open(name, os.O_RDONLY | FLAGS, dir_fd=folder)
        except PermissionError:
            if reads:
                raise
            fd = os.open(name, os.O_WRONLY | FLAGS, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(fd)
        check_regular(path, status.st_mode)
    except BaseException:
        os.close(fd)
        raise
    return Seen(fd, status, waited)


def _put(
    folder: int, name: str, seen: Seen, old: bytes | None, data: bytes, token: CancelToken
) -> tuple[str, ...]:
    """Give the file its new content, one way or the other. Returns the notes."""
    why = _bound_to_inode(seen)
    if not why:
        try:
            why = replace(folder, name, seen, old, data)
            if not why:
                return ()
        except OSError as error:
            if error.errno not in _NO_SECOND_FILE:
                raise
            why = "its folder takes no second file"
    reopen_alone(folder, name, seen)
    lock(seen.fd, LOCK_PATIENCE, token)
    lost = write_in_place(folder, name, seen, old, data)
    return (f"written in place, because {why}", *lost)


def _bound_to_inode(seen: Seen) -> str:
    """What another file in its place would not have, or ""."""
    if seen.status.st_nlink > 1:
        return f"it has {seen.status.st_nlink} names (hard links)"
    if seen.status.st_uid != os.geteuid():
        return "another user owns it"
    if attributes := extended_attributes(seen.fd):
        return f"it has extended attributes or an ACL ({', '.join(sorted(attributes))})"
    return ""
