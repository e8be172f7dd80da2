"""Files and folders as they were when the run began, to find out afterwards what changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from sandbox_agent_sandbox.protection.files import read_regular

_MOST_FILES = 500
_MOST_FOLDERS = 1000
"""In one folder, at any depth. A tool can make more of them than can be read in time."""
_MOST_BYTES = 64 * 1024
_MOST_IN_ALL = 4 * 1024 * 1024

Key = tuple[int, ...]


def key_of(path: str) -> Key | None:
    """What changes whenever a file changes; None if it is not there. No tool can set st_ctime."""
    try:
        return _numbers(os.lstat(path))
    except (OSError, ValueError):  # ValueError: the name has a NUL character
        return None


def _numbers(status: os.stat_result) -> Key:
    return (
        status.st_dev,
        status.st_ino,
        status.st_mode,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


class Kept:
    """Files and folders as they are now. The content of small files is kept, so a file that was
    written anew with the same content has not changed.

    roots: folders that tools can write. A link changes with what it leads to, if that is in one of
    them. Elsewhere nothing is read.
    """

    def __init__(self, roots: Sequence[str]) -> None:
        self._roots = tuple(f"{root}/" for root in roots)
        self._files: dict[str, dict[str, tuple[Key, bytes | None]]] = {}
        self._room = _MOST_IN_ALL

    def keep(self, path: str) -> None:
        """Keep a file, a link, or the files in a folder."""
        self._files[path] = {one: (key, self._content(one, key)) for one, key in self._below(path)}

    def changes(self, path: str) -> Iterator[tuple[bool, str]]:
        """The files that changed since then: whether each is new, and its path."""
        before = self._files.get(path, {})
        for one, key in self._below(path):
            if one not in before:
                yield True, one
            elif before[one][0] != key:
                content = before[one][1]
                if content is None or content != self._content(one, key):
                    yield False, one

    def _content(self, path: str, key: Key) -> bytes | None:
        link = b""
        if stat.S_ISLNK(key[2]):
            try:
                link = os.fsencode(os.readlink(path)) + b"\0"
            except OSError:
                return None
            target = self._target(path)
            found = None if target is None else key_of(target)
            if target is None or found is None or stat.S_ISDIR(found[2]):
                return link
            path, key = target, found
        if not stat.S_ISREG(key[2]):
            return None
        size = key[3]
        if size > min(_MOST_BYTES, self._room):
            return None
        self._room -= size
        content = read_regular(path, _MOST_BYTES)
        return None if content is None else link + content

    def _below(self, path: str) -> Iterator[tuple[str, Key]]:
        """A file, or the files in a folder, without those that git never runs. Where there are too
        many, the folder itself comes last."""
        key = self._key(path)
        if key is None:
            return
        if not stat.S_ISDIR(key[2]):
            yield path, key
            if not self._leads_to_folder(path, key):
                return
        count, folders, todo = 0, 0, [path]
        while todo:
            folder = todo.pop()
            folders += 1
            if folders > _MOST_FOLDERS:
                yield path, key
                return
            try:
                names = sorted(os.listdir(folder))
            except OSError:
                continue
            for name in names:
                one = f"{folder}/{name}"
                inner = self._key(one)
                if inner is None or name.endswith(".sample"):
                    continue
                if stat.S_ISDIR(inner[2]):
                    todo.append(one)
                    continue
                yield one, inner
                count += 1
                if count >= _MOST_FILES:
                    yield path, key
                    return

    def _key(self, path: str) -> Key | None:
        """As `key_of`; of a link also what it leads to. Of a folder only which one that is:
        anything may be written in there."""
        key = key_of(path)
        if key is None or not stat.S_ISLNK(key[2]) or (target := self._target(path)) is None:
            return key
        inner = key_of(target) or ()
        return key + (inner[:2] if inner and stat.S_ISDIR(inner[2]) else inner)

    def _target(self, link: str) -> str | None:
        """Where a link leads; None if tools cannot write there."""
        try:
            real = os.path.realpath(link)
        except (OSError, ValueError):
            return None
        return real if real.startswith(self._roots) else None

    def _leads_to_folder(self, path: str, key: Key) -> bool:
        """Whether a link leads to a folder, and to none that it lies in itself."""
        target = self._target(path) if stat.S_ISLNK(key[2]) else None
        if target is None or not os.path.isdir(target):
            return False
        return not f"{os.path.realpath(os.path.dirname(path))}/".startswith(f"{target}/")
