"""Looks through the folders that tools can write for repositories, and for names that run commands.

The names alone are read, so 100,000 of them take about a tenth of a second. No link is followed:
each folder is opened by the descriptor of the one above it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from enum import IntEnum

import msgspec

from sandbox_agent_sandbox.protection.files import read_start_at
from sandbox_agent_sandbox.protection.names import BUILT, JOURNAL, NAMES, OWNED, PARTS, RECORD

MOST_ENTRIES = 2_000_000
MOST_FOUND = 20_000
"""Repositories and names that are kept. There are more only where somebody planted them."""
DEEPEST = 200
PATIENCE = 10.0
"""Seconds of one look."""

_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BARE = frozenset(("HEAD", "objects", "refs"))
"""What git takes for a repository: a folder with these. gitrepository-layout(5)"""
_LINKED = frozenset(("HEAD", "commondir"))
"""And with these: `objects` and `refs` are then where `commondir` says."""
_MARKS = _BARE | _LINKED | NAMES.keys() | PARTS.keys() | {".git", JOURNAL}
_BEGINNING = b'{"event":"journal"'
"""Of a run's journal."""


class Repository(msgspec.Struct, frozen=True):
    """A repository. git: its git folder, or the file or link `.git`. root: the folder of the look
    that it lies in. is_folder: whether `git` is a folder. inode: of `git`. owned: it lies in a
    folder that a package manager fills. linked: it is what a repository keeps of a worktree."""

    git: str
    root: str
    is_folder: bool
    inode: tuple[int, int]
    owned: bool = False
    linked: bool = False


class Named(msgspec.Struct, frozen=True):
    """A file or folder of a listed name. what: is in it. built: it lies in a folder that build
    tools remove."""

    path: str
    root: str
    what: str
    built: bool = False


class Seen(msgspec.Struct):
    """What was found. unseen: folders that could not be read. problem: why not all was looked at;
    "" if all was."""

    roots: tuple[str, ...] = ()
    repositories: dict[str, Repository] = {}
    named: dict[str, Named] = {}
    unseen: set[str] = set()
    problem: str = ""


class _Enough(Exception):
    """Do not look any further. The text says why."""


def look(
    roots: Sequence[str],
    skip: Collection[str] = (),
    give_up: Callable[[], bool] = lambda: False,
    patience: float = PATIENCE,
) -> Seen:
    """Look through folders. roots: real paths. skip: folders that are left out. give_up: asked now
    and then whether to stop. patience: seconds."""
    outermost = [
        root for root in roots if not any(_is_below(root, one) for one in roots if one != root)
    ]
    seen = Seen(tuple(dict.fromkeys(outermost)))
    walk = _Walk(seen, skip, give_up, time.monotonic() + patience)
    try:
        for root in seen.roots:
            walk.root(root)
    except _Enough as why:
        seen.problem = str(why)
    return seen


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder.rstrip('/')}/")


class _Kind(IntEnum):
    """Who fills a folder: the user, a build tool, or a package manager."""

    OWN = 0
    BUILT = 1
    PACKAGES = 2


def _kind_of(name: str) -> _Kind:
    if name in OWNED:
        return _Kind.PACKAGES
    return _Kind.BUILT if name in BUILT else _Kind.OWN


class _Walk:
    def __init__(
        self, seen: Seen, skip: Collection[str], give_up: Callable[[], bool], until: float
    ) -> None:
        self._seen = seen
        self._skip = frozenset(skip)
        self._give_up = give_up
        self._until = until
        self._left = MOST_ENTRIES
        self._root = ""

    def root(self, path: str) -> None:
        self._root = path
        try:
            fd = os.open(path, _ENTER)
        except NotADirectoryError:
            return  # a single file in `write`
        except OSError:
            self._seen.unseen.add(path)
            return
        above, name = os.path.split(path)
        if name in PARTS:  # such as ~/.config in `write`
            self._there(os.listdir(fd), above, name, _Kind.OWN)
        self._folder(fd, path, _Kind.OWN, 0)

    def _folder(self, fd: int, path: str, kind: _Kind, depth: int) -> None:
        """Look into a folder, and close its descriptor."""
        try:
            folders, marks = self._names(fd, path)
            if marks:
                self._marks(fd, path, marks, kind)
            for name in folders:
                if name == ".git":
                    self._inner(fd, path, depth)
                else:
                    self._enter(fd, path, name, max(kind, _kind_of(name)), depth)
        except OSError:
            self._seen.unseen.add(path)
        finally:
            os.close(fd)

    def _names(self, fd: int, path: str) -> tuple[list[str], set[str]]:
        """The folders in a folder, and what is there of the names that matter."""
        if time.monotonic() > self._until:
            raise _Enough("looking took too long")
        if self._give_up():
            raise _Enough("it was stopped")
        folders, marks, count = [], set(), 0
        with os.scandir(fd) as found:
            for entry in found:
                count += 1
                name = entry.name
                if name in _MARKS:
                    marks.add(name)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(name)
        self._left -= count
        if self._left < 0:
            raise _Enough(f"there are more than {MOST_ENTRIES:,} files")
        return folders, marks

    def _enter(self, above: int, path: str, name: str, kind: _Kind, depth: int) -> None:
        inner = f"{path}/{name}"
        if inner in self._skip:
            return
        if depth >= DEEPEST:
            self._seen.unseen.add(inner)
            return
        try:
            fd = os.open(name, _ENTER, dir_fd=above)
        except OSError:
            self._seen.unseen.add(inner)
            return
        self._folder(fd, inner, kind, depth + 1)

    def _inner(self, above: int, path: str, depth: int) -> None:
        """The repositories of submodules, which lie in the git folder."""
        try:
            fd = os.open(".git", _ENTER, dir_fd=above)
        except OSError:
            return
        try:
            for name in ("modules", "worktrees"):
                try:
                    inner = os.open(name, _ENTER, dir_fd=fd)
                except OSError:
                    continue
                self._folder(inner, f"{path}/.git/{name}", _Kind.OWN, depth + 2)
        finally:
            os.close(fd)

    def _marks(self, fd: int, path: str, marks: set[str], kind: _Kind) -> None:
        if ".git" in marks:
            self._repository(fd, ".git", f"{path}/.git", kind is not _Kind.OWN)
        if marks >= _BARE or marks >= _LINKED:
            self._repository(fd, ".", path, kind is not _Kind.OWN)
        if kind is _Kind.PACKAGES:
            return
        for name in marks:
            if name in NAMES:
                self._name(f"{path}/{name}", NAMES[name], kind)
            elif name in PARTS:
                self._parts(fd, path, name, kind)
            elif name == JOURNAL and read_start_at(fd, name, len(_BEGINNING)) == _BEGINNING:
                self._name(f"{path}/{name}", RECORD, kind)

    def _parts(self, fd: int, path: str, name: str, kind: _Kind) -> None:
        try:
            inner = os.open(name, _ENTER, dir_fd=fd)
        except NotADirectoryError:  # programs follow a link there
            self._name(f"{path}/{name}", next(iter(PARTS[name].values())), kind)
            return
        except OSError:
            return
        try:
            there = os.listdir(inner)
        except OSError:
            return
        finally:
            os.close(inner)
        self._there(there, path, name, kind)

    def _there(self, there: list[str], path: str, name: str, kind: _Kind) -> None:
        for part, what in PARTS[name].items():
            if part in there:
                self._name(f"{path}/{name}/{part}", what, kind)

    def _name(self, path: str, what: str, kind: _Kind) -> None:
        self._count(len(self._seen.named))
        self._seen.named[path] = Named(path, self._root, what, kind is _Kind.BUILT)

    def _repository(self, fd: int, name: str, path: str, owned: bool) -> None:
        self._count(len(self._seen.repositories))
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except OSError:
            return
        is_folder = (status.st_mode & 0o170000) == 0o040000
        inode = status.st_dev, status.st_ino
        linked = os.path.dirname(path).endswith("/.git/worktrees")
        self._seen.repositories[path] = Repository(
            path, self._root, is_folder, inode, owned, linked
        )

    def _count(self, found: int) -> None:
        if found >= MOST_FOUND:
            raise _Enough(f"there are more than {MOST_FOUND:,} repositories, or listed names")
