"""Files and folders as they were when the run began, to find out afterwards what changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

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
        status = os.lstat(path)
    except (OSError, ValueError):  # ValueError: the name has a NUL character
        return None
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
    written anew with the same content has not changed."""

    def __init__(self) -> None:
        self._files: dict[str, dict[str, tuple[Key, bytes | None]]] = {}
        self._room = _MOST_IN_ALL

    def keep(self, path: str) -> None:
        """Keep a file, a link, or the files in a folder."""
        self._files[path] = {one: (key, self._content(one, key)) for one, key in _below(path)}

    def changes(self, path: str) -> Iterator[tuple[bool, str]]:
        """The files that changed since then: whether each is new, and its path."""
        before = self._files.get(path, {})
        for one, key in _below(path):
            if one not in before:
                yield True, one
            elif before[one][0] != key:
                content = before[one][1]
                if content is None or content != self._content(one, key):
                    yield False, one

    def _content(self, path: str, key: Key) -> bytes | None:
        if stat.S_ISLNK(key[2]):
            with suppress(OSError):
                return os.fsencode(os.readlink(path))
        if not stat.S_ISREG(key[2]):
            return None
        size = key[3]
        if size > min(_MOST_BYTES, self._room):
            return None
        self._room -= size
        return read_regular(path, _MOST_BYTES)


def _below(path: str) -> Iterator[tuple[str, Key]]:
    """A file, or the files in a folder, without those that git never runs. Where there are too
    many, the folder itself comes last."""
    key = key_of(path)
    if key is None:
        return
    if not stat.S_ISDIR(key[2]):
        yield path, key
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
            inner = key_of(one)
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
