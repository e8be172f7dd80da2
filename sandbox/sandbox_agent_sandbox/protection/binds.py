"""Which of the files and folders that were found are made read-only, and which are only compared.

What git tracks stays writable: a read-only tracked file makes `git checkout` of another version say
success and leave the file as it is. So does what a package manager fills, since what is mounted
there cannot be removed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from itertools import islice

from sandbox_agent_sandbox.protection.files import read_regular
from sandbox_agent_sandbox.protection.git_index import Index, git_folder_of
from sandbox_agent_sandbox.protection.git_settings import hooks_folder
from sandbox_agent_sandbox.protection.scan import Repository, Seen
from sandbox_agent_sandbox.utf8 import is_utf8

MOST_REPOSITORIES = 200
"""Repositories whose hooks are made read-only: each needs three mounts, and each call copies all
mounts."""
MOST_NAMES = 200
_MOST_HOOKS = 100
MOST_CONFIG = 1 << 18
"""Bytes of a git configuration that is read."""


def to_bind(seen: Seen, writes: Sequence[str], first: Sequence[str] = ()) -> list[str]:
    """The paths to make read-only, all without links. writes: the paths that the policy's `write`
    names. What is one of them, holds one or lies in one stays writable, unless that is the folder
    that was looked through. first: more paths, which may be tracked."""
    named = [path for path in writes if path not in seen.roots]
    tracking = _Tracking(seen)
    wanted = [*first, *_hooks(seen, tracking), *_names(seen, tracking)]
    return [
        path
        for path in dict.fromkeys(wanted)
        if is_utf8(path) and not any(_touches(path, one) for one in named)
    ]


def _touches(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def _hooks(seen: Seen, tracking: _Tracking) -> Iterator[str]:
    """The folders of hooks, of the outermost repositories first."""
    found = [one for one in seen.repositories.values() if not one.owned]
    found.sort(key=lambda one: (one.git.count("/"), one.git))
    for repository in found[:MOST_REPOSITORIES]:
        if not repository.is_folder:
            continue
        for folder in hook_folders(repository):
            yield from _linked(folder, seen, tracking)
            if folder == f"{repository.git}/hooks":
                if _is_real(folder, folder=True):
                    yield folder
            elif _in_reach(folder, seen) and not tracking.tracks(folder):
                yield folder


def hook_folders(repository: Repository) -> Iterator[str]:
    """The folders that the hooks of a repository may be in: its own, one that its settings name,
    and what links in their places lead to."""
    folders = [f"{repository.git}/hooks"]
    text = read_regular(f"{repository.git}/config", MOST_CONFIG) or b""
    if b"hookspath" in text.lower():
        named = hooks_folder(text, os.path.dirname(repository.git))
        folders += [] if named is None else [named]
    for folder in folders:
        yield folder
        if os.path.islink(folder):
            yield os.path.realpath(folder)


def _in_reach(path: str, seen: Seen, *, folder: bool = True) -> bool:
    """Whether tools can write it: it is below one of the roots and behind no link."""
    below = any(path.startswith(f"{root}/") for root in seen.roots)
    return below and _is_real(path, folder=folder) and os.path.realpath(path) == path


def _linked(folder: str, seen: Seen, tracking: _Tracking) -> Iterator[str]:
    """The files that links in a folder of hooks lead to."""
    try:
        with os.scandir(folder) as entries:
            links = [one.path for one in islice(entries, _MOST_HOOKS) if one.is_symlink()]
    except (OSError, ValueError):
        return
    for link in links:
        yield from _target(link, seen, tracking)


def _target(link: str, seen: Seen, tracking: _Tracking) -> Iterator[str]:
    """The file that a link leads to, if tools can write it. Folders are compared only: a link that
    a tool has made must not shut a whole folder to the next run."""
    real = os.path.realpath(link)
    if _in_reach(real, seen, folder=False) and os.path.isfile(real) and not tracking.tracks(real):
        yield real


def _names(seen: Seen, tracking: _Tracking) -> Iterator[str]:
    found = sorted(seen.named.values(), key=lambda one: (one.path.count("/"), one.path))
    count = 0
    for one in found:
        if one.built:
            continue
        if _is_real(one.path):
            paths = [] if tracking.tracks(one.path) else [one.path]
        else:
            paths = list(_target(one.path, seen, tracking))
        yield from paths
        count += len(paths)
        if count >= MOST_NAMES:
            return


def _is_real(path: str, *, folder: bool = False) -> bool:
    """Whether it is there, as a folder or a file and no link."""
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(mode) or (stat.S_ISREG(mode) and not folder)


class _Tracking:
    """Whether git tracks a file, or files in a folder."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._repositories: dict[str, tuple[str, Index] | None] = {}

    def tracks(self, path: str) -> bool:
        found = self._repository(os.path.dirname(path))
        if found is None:
            return False
        top, index = found
        return index.tracked(os.path.relpath(path, top)) > 0

    def _repository(self, folder: str) -> tuple[str, Index] | None:
        """The working tree that a folder is in, and its index."""
        if folder not in self._repositories:
            git = git_folder_of(folder)
            if git is not None:
                self._repositories[folder] = folder, Index(git)
            elif folder == "/":
                self._repositories[folder] = None
            else:
                self._repositories[folder] = self._repository(os.path.dirname(folder))
        return self._repositories[folder]
