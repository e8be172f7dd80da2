"""Undoes changes of a repository's settings that make git start programs, or use another folder.

The settings stay writable for tools. After a call they are compared with what they were when the
run began. Whoever writes settings holds `config.lock`, as git does, so nothing that git writes
meanwhile is lost; git-config(1).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import msgspec

from sandbox_agent_sandbox.protection.binds import MOST_CONFIG
from sandbox_agent_sandbox.protection.files import folder_at, read_at, replace_at
from sandbox_agent_sandbox.protection.finding import Finding, FindingKind, finding
from sandbox_agent_sandbox.protection.git_settings import (
    includes,
    shown,
    without_new_programs,
)
from sandbox_agent_sandbox.protection.kept import Key, key_of
from sandbox_agent_sandbox.protection.scan import Repository, Seen

MOST_AT_A_CALL = 200
"""Repositories that are looked at after each call, the outermost first; after the run all are."""
MOST_WATCHED = 1000
"""Repositories that are watched at all. There are more only where somebody planted them."""
_MOST_LINK = 4096
_MOST_SHOWN = 10
_OTHER_FOLDER = "it names another git folder, with other settings and hooks"


class _Watched(msgspec.Struct):
    """A file that is compared. is_link: it names a git folder, and holds no settings. before: its
    content when the run began; None if it was not there, or was no ordinary file (odd): such a one
    is only reported. like: its owner and mode then. key: at the last look."""

    path: str
    root: str
    is_link: bool
    before: bytes | None
    like: os.stat_result | None
    key: Key | None
    odd: bool


def outermost(seen: Seen) -> list[Repository]:
    """The repositories that are watched, the outermost first."""
    found = sorted(seen.repositories.values(), key=lambda one: (one.git.count("/"), one.git))
    return found[:MOST_WATCHED]


class GitGuard:
    """The settings of the repositories that were found. restores: False to leave all as it is, and
    to say it. name: makes a path short, for findings."""

    def __init__(self, seen: Seen, *, restores: bool, name: Callable[[str], str]) -> None:
        self._roots = seen.roots
        self._restores = restores
        self._name = name
        self._folders: list[tuple[str, list[_Watched]]] = []
        self._keys: dict[str, Key | None] = {}
        for repository in outermost(seen):
            folder = repository.git
            watched = []
            if not repository.is_folder:
                watched.append(self._watch(repository.git, repository.root, is_link=True))
                folder = _named_by(watched[0].before, repository.git)
            if (root := self._root_of(folder)) is not None and _is_folder(root, folder):
                watched += self._in_folder(folder, root)
            self._folders.append((folder, watched))
            self._keys[folder] = key_of(folder)

    def _in_folder(self, folder: str, root: str) -> Iterator[_Watched]:
        yield self._watch(f"{folder}/commondir", root, is_link=True)
        yield self._watch(f"{folder}/config.worktree", root)
        config = self._watch(f"{folder}/config", root)
        yield config
        todo, known = [config], {config.path}
        while todo and len(known) < 20:
            one = todo.pop()
            for path in includes(one.before or b"", os.path.dirname(one.path)):
                inner = self._root_of(path)
                if inner is not None and path not in known:
                    known.add(path)
                    todo.append(self._watch(path, inner))
                    yield todo[-1]

    def _root_of(self, path: str) -> str | None:
        return next((one for one in self._roots if f"{path}/".startswith(f"{one}/")), None)

    def _watch(self, path: str, root: str, *, is_link: bool = False) -> _Watched:
        key = key_of(path)
        before = like = None
        # Not through a link: what is read here is what a tool can read after it was put back.
        with suppress(OSError, ValueError), folder_at(root, os.path.dirname(path)) as folder:
            before, like = read_at(folder, os.path.basename(path), MOST_CONFIG)
        odd = key is not None and before is None
        return _Watched(path, root, is_link, before, like, key, odd)

    def check(self, call: str, *, last: bool = False) -> Iterator[Finding]:
        """Compare, and undo what is new. call: that has just ended. last: no other call is going,
        so a lock is what a tool has left behind."""
        for folder, watched in self._folders if last else self._folders[:MOST_AT_A_CALL]:
            key = key_of(folder)
            moved = key != self._keys[folder]
            self._keys[folder] = key
            for one in watched:
                # A file that was not there can only be there now if its folder has changed.
                if one.key is None and not moved and not last:
                    continue
                if key_of(one.path) != one.key:
                    yield from self._compare(one, call, last)

    def _compare(self, one: _Watched, call: str, last: bool) -> Iterator[Finding]:
        found: Iterable[Finding] = ()
        note = partial(finding, path=self._name(one.path), call=call)
        try:
            with folder_at(one.root, os.path.dirname(one.path)) as folder:
                name = os.path.basename(one.path)
                undo = self._undo_link if one.is_link else self._undo_settings
                undo = _tell if one.odd else undo
                found = [note(kind, what=what) for kind, what in undo(one, folder, name, last)]
            one.key = key_of(one.path)
        except FileNotFoundError:
            one.key = None  # the repository is not there any more
        except OSError as error:
            if isinstance(error, FileExistsError) and not last:
                self._keys[os.path.dirname(one.path)] = None  # git writes it: look again later
            elif last or not isinstance(error, NotADirectoryError):
                what = f"it could not be set back: {error.strerror}"
                found = [note(FindingKind.NOT_RESTORED, what=what)]
        yield from found

    def _undo_link(
        self, one: _Watched, folder: int, name: str, last: bool
    ) -> list[tuple[FindingKind, str]]:
        """Set a file back that names a git folder. One that was removed stays removed."""
        try:
            if read_at(folder, name, _MOST_LINK)[0] == one.before:
                return []
        except ValueError:
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                return []  # a repository of its own: it is reported as a new one
        except FileNotFoundError:
            return []
        except OSError:
            pass  # a link
        if not self._restores:
            return [(FindingKind.CHANGED, _OTHER_FOLDER)]
        self._put_back(one, folder, name, last)
        return [(FindingKind.RESTORED, _OTHER_FOLDER)]

    def _undo_settings(
        self, one: _Watched, folder: int, name: str, last: bool
    ) -> list[tuple[FindingKind, str]]:
        before = one.before or b""
        try:
            data, status = read_at(folder, name, MOST_CONFIG)
        except FileNotFoundError:
            return []
        except (OSError, ValueError):
            data = b"\0"
        if b"\0" in data and b"\0" not in before:
            # git would read it all the same, and some of it otherwise than we do.
            what = "settings of git in a file that is not an ordinary one"
            if self._restores:
                self._put_back(one, folder, name, last)
                return [(FindingKind.RESTORED, what)]
            return [(FindingKind.CHANGED, what)]
        reaches = partial(self._reaches, os.path.dirname(one.path))
        text, new = without_new_programs(before, data, reaches)
        if not new:
            return []
        if self._restores:
            with _writable(folder):
                replace_at(folder, name, text, status, _lock(name, last))
        kind = FindingKind.RESTORED if self._restores else FindingKind.CHANGED
        notes = [(kind, shown(entry)) for entry in new[:_MOST_SHOWN]]
        if len(new) > _MOST_SHOWN:
            notes.append((kind, f"and {len(new) - _MOST_SHOWN} more settings"))
        return notes

    def _put_back(self, one: _Watched, folder: int, name: str, last: bool) -> None:
        with _writable(folder):
            if one.before is None or one.like is None:
                os.unlink(name, dir_fd=folder)
            else:
                replace_at(folder, name, one.before, one.like, _lock(name, last))

    def _reaches(self, folder: str, path: str) -> bool:
        """Whether a working tree that `core.worktree` names lies in the folders of the tools, and
        behind no link."""
        place = os.path.normpath(os.path.join(folder, path))
        if os.path.realpath(place) != place:
            return False
        return self._root_of(place) is not None


def _tell(one: _Watched, folder: int, name: str, last: bool) -> list[tuple[FindingKind, str]]:
    what = "names the git folder" if one.is_link else "holds settings of git"
    return [(FindingKind.NOT_RESTORED, f"it {what}, and was no ordinary file before")]


def _named_by(link: bytes | None, path: str) -> str:
    """The git folder that a file `.git` names."""
    word, _, target = os.fsdecode(link or b"").partition(":")
    if word != "gitdir" or "\0" in target:
        return path
    return os.path.normpath(os.path.join(os.path.dirname(path), target.strip()))


def _lock(name: str, last: bool) -> str:
    """The name of the new file until it gets its own: git's lock, unless nobody can hold it. Then
    it is a name that no tool can have guessed and taken."""
    return f".{name}.sandbox-agent-{os.urandom(8).hex()}" if last else f"{name}.lock"


def _is_folder(root: str, path: str) -> bool:
    """Whether it is a folder below `root`, with no link on the way."""
    try:
        with folder_at(root, path):
            return True
    except OSError:
        return False


@contextmanager
def _writable(folder: int) -> Iterator[None]:
    """Let the owner of a folder write in it, also where a tool has forbidden that."""
    mode = stat.S_IMODE(os.fstat(folder).st_mode)
    own = f"/proc/self/fd/{folder}"  # the descriptor is a path only, open(2), O_PATH
    shut = mode & 0o300 != 0o300
    if shut:
        os.chmod(own, mode | 0o300)
    try:
        yield
    finally:
        if shut:
            os.chmod(own, mode)
