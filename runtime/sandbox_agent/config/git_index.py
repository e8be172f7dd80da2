"""Which files git tracks, read from the index of a repository.

git itself is not asked: tools can write the repository's configuration, and it may name programs
that git starts (core.fsmonitor). The format: gitformat-index(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

MAX_INDEX = 64 * 1024 * 1024
"""Bytes of an index that is read; of a larger one nothing is said."""

_HEADER = 12
_FIXED = 62
"""Bytes of an entry before its name, with an object name of 20 bytes (SHA-1)."""
_EXTENDED = 0x4000
"""A flag of an entry: two more bytes of flags follow."""


def tracked_files(path: Path) -> int:
    """How many tracked files `path` is or holds; 0 if it is in no repository, or if that cannot be
    read. path: absolute, without links."""
    for top in path.parents:
        folder = _git_folder(top)
        if folder is not None:
            name = os.fsencode(path.relative_to(top))
            try:
                return sum(
                    entry == name or entry.startswith(name + b"/")
                    for entry in _entries(folder / "index")
                )
            except (OSError, ValueError, IndexError):
                return 0
    return 0


def _git_folder(top: Path) -> Path | None:
    """The git folder of a working tree; also that of a linked one, gitrepository-layout(5)."""
    git = top / ".git"
    try:
        if git.is_dir():
            return git
        if git.is_file() and git.stat().st_size < 4096:
            word, _, target = git.read_text("utf-8", "surrogateescape").partition(":")
            return top / target.strip() if word == "gitdir" else None
    except OSError:
        return None
    return None


def _entries(index: Path) -> Iterator[bytes]:
    """The names in an index. Raises OSError, ValueError, IndexError."""
    if index.stat().st_size > MAX_INDEX:
        return
    data = index.read_bytes()
    version, count = (int.from_bytes(data[at : at + 4], "big") for at in (4, 8))
    if data[:4] != b"DIRC" or version not in (2, 3, 4):
        return
    at, name = _HEADER, b""
    for _ in range(count):
        start = at
        flags = int.from_bytes(data[at + 60 : at + 62], "big")
        at += _FIXED + (2 if flags & _EXTENDED and version > 2 else 0)
        if version == 4:
            cut, at = _offset(data, at)
            end = data.index(b"\0", at)
            name = name[: len(name) - cut] + data[at:end]
            at = end + 1
        else:
            end = data.index(b"\0", at)
            name = data[at:end]
            at = start + (end - start + 8) // 8 * 8  # padded with 1 to 8 NUL bytes
        yield name


def _offset(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable width, as in packs (gitformat-pack(5)), and where it ends."""
    value = data[at] & 0x7F
    while data[at] & 0x80:
        at += 1
        value = (value + 1 << 7) | (data[at] & 0x7F)
    return value, at + 1
