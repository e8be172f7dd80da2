"""Puts back what tools are not to change, where nothing can keep them from it.

Without mounts a path that is to be read-only lies in a folder that tools write. So what is there is
kept when the run begins, and compared after each call. What a tool changed, added or removed is set
back. No tool can set the time of a file's last change (st_ctime), so a look at that is enough where
nothing has changed. inode(7)

A tool of another call may be at work meanwhile. So each step goes by descriptors, and none follows
a link.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from sandbox_agent_sandbox.inside.kernel.remove_tree import remove_tree

MOST_FILES = 20_000
MOST_BYTES = 128 * 2**20
"""What is kept. Of a file beyond that a change is noticed and cannot be undone; beyond that number,
it is not noticed."""

_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_THROUGH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20


class _One(NamedTuple):
    """A file, folder or link as it was. at: where its content begins in the store; None where it
    was not kept. link: what a link leads to."""

    status: os.stat_result
    at: int | None = None
    link: str = ""


class PutBack:
    """The paths as they are now. They are without links. The first ones come first.

    For one thread at a time. unseen: those of the paths of which not all is known.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._roots = [one for one in paths if not _is_below_any(one, paths)]
        self._kept: dict[str, _One] = {}
        self._inside: dict[str, set[str]] = {}
        """By folder: the names in it."""
        self._partly: set[str] = set()
        """Folders of which not all is kept, so what is not known in them may have been there."""
        self._room = MOST_BYTES
        self._store: int | None = None
        self._end = 0
        self.unseen: list[str] = []
        for path in self._roots:
            self._keep(path)
            if len(self._kept) >= MOST_FILES:
                self.unseen.append(path)

    def check(self) -> Iterator[tuple[str, bool]]:
        """Put back what has changed. Yields each path, and whether it is as it was."""
        for path in self._roots:
            if path in self._kept:
                yield from self._check(path)

    # --- keeping

    def _keep(self, path: str) -> None:
        if len(self._kept) >= MOST_FILES:
            return
        with suppress(OSError):
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                names = set(os.listdir(path))
                self._kept[path], self._inside[path] = _One(status), names
                for name in sorted(names):
                    self._keep(f"{path}/{name}")
                if any(f"{path}/{name}" not in self._kept for name in names):
                    self._partly.add(path)
            elif stat.S_ISLNK(status.st_mode):
                self._kept[path] = _One(status, link=os.readlink(path))
            elif stat.S_ISREG(status.st_mode):
                self._kept[path] = _One(status, self._copy(path, status.st_size))
            else:
                self._kept[path] = _One(status)

    def _copy(self, path: str, size: int) -> int | None:
        """Copy a file to the store, a file without a name that no tool reaches."""
        if size > self._room:
            return None
        if self._store is None:
            with tempfile.TemporaryFile() as file:
                self._store = os.dup(file.fileno())
        fd = os.open(path, _READ)
        try:
            at, copied = self._end, 0
            while copied < size and (part := os.read(fd, min(_CHUNK, size - copied))):
                copied += os.pwrite(self._store, part, at + copied)
        finally:
            os.close(fd)
        if copied != size:
            return None
        self._end += size
        self._room -= size
        return at

    # --- putting back

    def _check(self, path: str) -> Iterator[tuple[str, bool]]:
        was = self._kept[path]
        now: os.stat_result | None = None
        above = os.path.dirname(path)
        # A link in the place of a folder above may lead anywhere a moment later.
        if path not in self._roots or os.path.realpath(above) == above:
            with suppress(OSError):
                now = os.lstat(path)
        if now is None or _key(now) != _key(was.status):
            if not self._is_same(path, was, now):
                yield path, self._restore(path, was)
            elif now is not None:
                self._kept[path] = was._replace(status=now)
        if stat.S_ISDIR(was.status.st_mode):
            yield from self._check_inside(path)

    def _check_inside(self, path: str) -> Iterator[tuple[str, bool]]:
        names = [] if path in self._partly else self._names(path)
        for name in sorted(set(names) - self._inside[path]):
            yield f"{path}/{name}", self._remove(f"{path}/{name}")
        for name in sorted(self._inside[path]):
            if f"{path}/{name}" in self._kept:
                yield from self._check(f"{path}/{name}")
        with suppress(OSError):  # what was done in it counts as no change
            self._kept[path] = self._kept[path]._replace(status=os.lstat(path))

    def _names(self, path: str) -> list[str]:
        """What is in a folder; nothing if that has been exchanged meanwhile, perhaps by a link to a
        folder of which no tool is to learn anything."""
        was = self._kept[path].status
        try:
            fd = os.open(path, _ENTER)
        except OSError:
            return []
        try:
            return os.listdir(fd) if os.path.samestat(os.fstat(fd), was) else []
        finally:
            os.close(fd)

    def _is_same(self, path: str, was: _One, now: os.stat_result | None) -> bool:
        """Whether a path is what it was, although it was touched."""
        if now is None or now.st_mode != was.status.st_mode or now.st_uid != was.status.st_uid:
            return False
        if stat.S_ISDIR(now.st_mode):
            return True
        if stat.S_ISLNK(now.st_mode):
            with suppress(OSError):
                return os.readlink(path) == was.link
            return False
        if not stat.S_ISREG(now.st_mode) or now.st_size != was.status.st_size or was.at is None:
            return False
        with suppress(OSError):
            return self._has_content(path, was)
        return False

    def _has_content(self, path: str, was: _One) -> bool:
        assert self._store is not None and was.at is not None
        fd = os.open(path, _READ)
        try:
            compared = 0
            while part := os.read(fd, _CHUNK):
                if part != os.pread(self._store, len(part), was.at + compared):
                    return False
                compared += len(part)
        finally:
            os.close(fd)
        return compared == was.status.st_size

    def _restore(self, path: str, was: _One) -> bool:
        kind = was.status.st_mode
        if not stat.S_ISDIR(kind) and not stat.S_ISLNK(kind) and was.at is None:
            return False
        try:
            with _Above(path) as (folder, name):
                if stat.S_ISDIR(kind):
                    self._restore_folder(folder, name, was.status)
                else:
                    self._restore_file(folder, name, was)
                now = os.stat(name, dir_fd=folder, follow_symlinks=False)
                self._kept[path] = was._replace(status=now)
        except OSError:
            return False
        return True

    def _restore_folder(self, folder: int, name: str, was: os.stat_result) -> None:
        try:
            fd = os.open(name, _ENTER, dir_fd=folder)
        except FileNotFoundError:
            os.mkdir(name, 0o700, dir_fd=folder)
            fd = os.open(name, _ENTER, dir_fd=folder)
        except (NotADirectoryError, PermissionError) as error:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):  # shut: its mode is put back
                if status.st_uid != os.geteuid() and os.geteuid():
                    raise
                os.chmod(name, stat.S_IMODE(was.st_mode), dir_fd=folder)
            elif isinstance(error, NotADirectoryError):
                os.unlink(name, dir_fd=folder)
                os.mkdir(name, 0o700, dir_fd=folder)
            fd = os.open(name, _ENTER, dir_fd=folder)
        try:
            _dress(fd, was)
        finally:
            os.close(fd)

    def _restore_file(self, folder: int, name: str, was: _One) -> None:
        _remove_at(folder, name)
        if was.link:
            os.symlink(was.link, name, dir_fd=folder)
            return
        assert self._store is not None and was.at is not None
        fd = os.open(name, _MAKE, 0o600, dir_fd=folder)
        try:
            done, size = 0, was.status.st_size
            while done < size:
                part = os.pread(self._store, min(_CHUNK, size - done), was.at + done)
                done += os.write(fd, part)
            _dress(fd, was.status)
            os.utime(fd, ns=(was.status.st_atime_ns, was.status.st_mtime_ns))
        finally:
            os.close(fd)

    @staticmethod
    def _remove(path: str) -> bool:
        try:
            with _Above(path) as (folder, name):
                _remove_at(folder, name)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Let go of the copies."""
        store, self._store = self._store, None
        if store is not None:
            os.close(store)

    __del__ = close


class _Above:
    """The folder that a path lies in, found without a link, as a descriptor; and the last part.

    What is missing on the way is made. What a tool has shut there (chmod) is open until the end.
    """

    def __init__(self, path: str) -> None:
        *self._folders, self._name = path.strip("/").split("/")
        self._at = -1
        self._shut: list[tuple[int, int]] = []
        """Descriptors of folders, and their modes."""

    def __enter__(self) -> tuple[int, str]:
        self._at = os.open("/", _THROUGH)
        try:
            for part in self._folders:
                self._open(0o100)
                below = self._below(part)
                os.close(self._at)
                self._at = below
            self._open(0o300)
        except BaseException:
            self.__exit__()
            raise
        return self._at, self._name

    def _below(self, part: str) -> int:
        try:
            return os.open(part, _THROUGH, dir_fd=self._at)
        except (FileNotFoundError, NotADirectoryError) as error:
            self._open(0o300)
            if isinstance(error, NotADirectoryError):  # a file or a link is in its place now
                aside = f"{part}.{os.urandom(4).hex()}"
                os.rename(part, aside, src_dir_fd=self._at, dst_dir_fd=self._at)
            os.mkdir(part, 0o755, dir_fd=self._at)
            return os.open(part, _THROUGH, dir_fd=self._at)

    def _open(self, rights: int) -> None:
        """Have these rights in the folder that has been reached, if it is this user's."""
        status = os.fstat(self._at)
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid == os.geteuid() and mode & rights != rights:
            os.chmod(f"/proc/self/fd/{self._at}", mode | rights)
            self._shut.append((os.dup(self._at), mode))

    def __exit__(self, *_: object) -> None:
        for folder, mode in reversed(self._shut):
            with suppress(OSError):
                os.chmod(f"/proc/self/fd/{folder}", mode)
            os.close(folder)
        self._shut.clear()
        os.close(self._at)


def _remove_at(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError):
        remove_tree(name, folder)


def _dress(fd: int, was: os.stat_result) -> None:
    now = os.fstat(fd)
    if (now.st_uid, now.st_gid) != (was.st_uid, was.st_gid):
        try:
            os.fchown(fd, was.st_uid, was.st_gid)
        except OSError as error:
            if error.errno != errno.EPERM:
                raise
    os.fchmod(fd, stat.S_IMODE(was.st_mode))


def _key(status: os.stat_result) -> tuple[int, ...]:
    return (
        *(status.st_dev, status.st_ino, status.st_mode, status.st_uid, status.st_gid),
        *(status.st_size, status.st_mtime_ns, status.st_ctime_ns),
    )


def _is_below_any(path: str, others: Sequence[str]) -> bool:
    return any(path.startswith(f"{other}/") for other in others)
