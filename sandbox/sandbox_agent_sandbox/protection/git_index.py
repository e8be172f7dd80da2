"""Which files git tracks, read from the index of a repository.

git itself is not asked: tools can write the repository's configuration, and it may name programs
that git starts (core.fsmonitor). The format: gitformat-index(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sandbox_agent_sandbox.protection.files import read_regular

MAX_INDEX = 64 * 1024 * 1024
"""Bytes of an index that is read; of a larger one nothing is said."""

_HEADER = 12
_FIXED = 62
"""Bytes of an entry before its name, with an object name of 20 bytes (SHA-1)."""
_EXTENDED = 0x4000
"""A flag of an entry: two more bytes of flags follow."""
_LENGTH = 0x0FFF
"""The flags' bits that hold the length of the name, or all of them for a longer one."""
_MOST_LINK = 4096


def tracked_files(path: Path) -> int:
    """How many tracked files `path` is or holds; 0 if it is in no repository, or if that cannot be
    read. path: absolute, without links."""
    for top in path.parents:
        folder = git_folder_of(str(top))
        if folder is not None:
            return Index(folder).tracked(os.path.relpath(path, top))
    return 0


def git_folder_of(top: str) -> str | None:
    """The git folder of a working tree; also that of a linked one, gitrepository-layout(5)."""
    git = f"{top}/.git"
    if os.path.isdir(git):
        return git
    word, _, target = os.fsdecode(read_regular(git, _MOST_LINK) or b"").partition(":")
    return os.path.join(top, target.strip()) if word == "gitdir" else None


class Index:
    """The index of a repository, read when it is first asked. folder: its git folder."""

    def __init__(self, folder: str) -> None:
        self._path = f"{folder}/index"
        self._data: bytes | None = None

    def tracked(self, name: str) -> int:
        """How many tracked files a file or folder is or holds. name: relative to the working tree.
        0 if that cannot be read."""
        if self._data is None:
            self._data = read_regular(self._path, MAX_INDEX) or b""
        data, wanted = self._data, os.fsencode(name)
        version = int.from_bytes(data[4:8], "big")
        if data[:4] != b"DIRC" or version not in (2, 3, 4):
            return 0
        if version == 4:  # names are packed, so each has to be made from the one before
            try:
                names = _names(data)
                return sum(one == wanted or one.startswith(wanted + b"/") for one in names)
            except (ValueError, IndexError):
                return 0
        return sum(_occurrences(data, wanted))


def _occurrences(data: bytes, wanted: bytes) -> Iterator[bool]:
    """Each entry of this name, or below it. A name stands after two bytes with its length and some
    flags, and before a NUL byte. An index of 100,000 files has 10 MB: a search takes 2 ms, and to
    read each entry a hundred times as long."""
    at = data.find(wanted, _HEADER + _FIXED)
    while at >= 0:
        after = data[at + len(wanted) : at + len(wanted) + 1]
        if after in (b"\0", b"/"):
            end = data.find(b"\0", at)
            short = min(end - at, _LENGTH)
            flags = int.from_bytes(data[at - 2 : at], "big")
            more = int.from_bytes(data[at - 4 : at - 2], "big")
            if flags & _LENGTH == short or (more & _EXTENDED and more & _LENGTH == short):
                yield True
        at = data.find(wanted, at + 1)


def _names(data: bytes) -> Iterator[bytes]:
    """The names of an index of version 4. Raises ValueError, IndexError."""
    at, name = _HEADER, b""
    for _ in range(int.from_bytes(data[8:12], "big")):
        flags = int.from_bytes(data[at + 60 : at + 62], "big")
        at += _FIXED + (2 if flags & _EXTENDED else 0)
        cut, at = _offset(data, at)
        end = data.index(b"\0", at)
        name = name[: len(name) - cut] + data[at:end]
        at = end + 1
        yield name


def _offset(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable width, as in packs (gitformat-pack(5)), and where it ends."""
    value = data[at] & 0x7F
    while data[at] & 0x80:
        at += 1
        value = (value + 1 << 7) | (data[at] & 0x7F)
    return value, at + 1
