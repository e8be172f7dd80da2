"""Marks on files that act later, and that no system call could be refused for: they are removed.

- Attributes `user.overlay.*`: a staged run, which lays an overlayfs over the workspace, would obey
  them: files vanish or are others. Their names lie behind a pointer, where seccomp does not look.
- The setgid bit of a program of root's group. Folders need the bit (`git init --shared`), and
  seccomp does not see which is which.
- The setuid bit of a program that was there, where a tool wrote to the file by a mapping: the
  kernel takes the bit at write(2), and not then. mmap(2)

setxattr(2), overlayfs.rst, inode(7)
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress

OVERLAY = "user.overlay."
ATTRIBUTE = "an attribute that overlayfs would obey"
SETGID = "the setgid bit of a program of root's group"
SETUID = "the setuid bit of a program that was changed"

_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ABOVE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
"""Above a workspace lie folders that a user may enter and not read, such as /home. open(2)"""
_DEEPEST = 200
_SLACK = 10.0
"""Seconds by which the clock of a file system may be behind this one's."""

Removed = tuple[str, str, bool]
"""A path, what was on it, and whether it is gone."""


class Unfinished(Exception):
    """Not all was looked at. The text says why."""


def remove_marks(
    roots: Sequence[str],
    begun: float,
    *,
    skip: Collection[str] = (),
    give_up: Callable[[], bool] = lambda: False,
    patience: float = 10.0,
) -> Iterator[Removed]:
    """Remove the marks below some folders, and from them. Follows no links.

    begun: when the run began, as time.time() says it; what has not changed since is passed over.
    skip: folders that are left out. give_up: asked now and then whether to stop. patience: seconds.

    Raises Unfinished.
    """
    search = _Search(begun - _SLACK, frozenset(skip), give_up, time.monotonic() + patience)
    for root in roots:
        try:
            above = os.open(os.path.dirname(root) or "/", _ABOVE)
        except OSError:
            continue
        try:
            yield from search.entry(above, os.path.basename(root), root, 0)
        finally:
            os.close(above)


class _Search:
    def __init__(
        self, since: float, skip: frozenset[str], give_up: Callable[[], bool], until: float
    ) -> None:
        self._since = since
        self._skip = skip
        self._give_up = give_up
        self._until = until
        self._is_root = os.geteuid() == 0

    def entry(self, above: int, name: str, path: str, depth: int) -> Iterator[Removed]:
        """Look at one file or folder, and below it. above: a descriptor of the folder it is in."""
        with suppress(OSError):
            status = os.stat(name, dir_fd=above, follow_symlinks=False)
            yield from self._look(above, name, path, status)
            if stat.S_ISDIR(status.st_mode):
                yield from self._folder(above, name, path, depth)

    def _folder(self, above: int, name: str, path: str, depth: int) -> Iterator[Removed]:
        if path in self._skip or depth >= _DEEPEST:
            return
        if time.monotonic() > self._until:
            raise Unfinished("looking took too long")
        if self._give_up():
            raise Unfinished("it was stopped")
        fd = os.open(name, _ENTER, dir_fd=above)
        try:
            folders = []
            with os.scandir(fd) as entries:
                for one in entries:
                    with suppress(OSError):
                        status = one.stat(follow_symlinks=False)
                        yield from self._look(fd, one.name, f"{path}/{one.name}", status)
                        if stat.S_ISDIR(status.st_mode):
                            folders.append(one.name)
            for inner in folders:
                with suppress(OSError):
                    yield from self._folder(fd, inner, f"{path}/{inner}", depth + 1)
        finally:
            os.close(fd)

    def _look(self, above: int, name: str, path: str, status: os.stat_result) -> Iterator[Removed]:
        # Only of these has the namespace `user` attributes. xattr(7)
        is_file = stat.S_ISREG(status.st_mode)
        if status.st_ctime < self._since or not (is_file or stat.S_ISDIR(status.st_mode)):
            return
        set_by_tools = is_file and self._is_root and status.st_gid == 0
        if set_by_tools and status.st_mode & stat.S_ISGID:
            yield path, SETGID, _change(above, name, _clear_setgid) is not None
        # No slack: the user may have built the program just before the run.
        if is_file and status.st_mode & stat.S_ISUID and status.st_ctime > self._since + _SLACK:
            yield path, SETUID, _change(above, name, _clear_setuid) is not None
        if _is_marked(path) is not False:
            gone = _change(above, name, _clear_attributes)
            if gone is not False:
                yield path, ATTRIBUTE, gone is not None


def _is_marked(path: str) -> bool | None:
    """Whether there are attributes of overlayfs; None if that cannot be seen: the file is shut, or
    its path is longer than the kernel takes."""
    try:
        return any(name.startswith(OVERLAY) for name in os.listxattr(path, follow_symlinks=False))
    except OSError as error:
        # A file system without attributes has none to remove.
        return False if error.errno == errno.EOPNOTSUPP else None


def _change(above: int, name: str, change: Callable[[str], bool]) -> bool | None:
    """Change the very file that a name leads to, and no other. Returns what `change` does; None if
    that failed."""
    try:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    except OSError:
        return None
    try:
        return change(f"/proc/self/fd/{fd}")
    except OSError:
        return None
    finally:
        os.close(fd)


def _clear_setgid(path: str) -> bool:
    os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) & ~stat.S_ISGID)
    return True


def _clear_setuid(path: str) -> bool:
    os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) & ~stat.S_ISUID)
    return True


def _clear_attributes(path: str) -> bool:
    """Returns whether there were some."""
    mode = stat.S_IMODE(os.stat(path).st_mode)
    shut = mode & 0o600 != 0o600
    if shut:  # their owner may see and remove them only of what the owner may read and write
        os.chmod(path, mode | 0o600)
    try:
        marks = [name for name in os.listxattr(path) if name.startswith(OVERLAY)]
        for name in marks:
            os.removexattr(path, name)
    finally:
        if shut:
            os.chmod(path, mode)
    return bool(marks)
