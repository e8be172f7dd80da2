"""Modules that Python would import from a folder before sandbox-agent is imported.

Python puts the folder of a script first in `sys.path`, and the current one with `python -m`. A file
there with the name of one of its own modules, of one that the script imports first, or of
sandbox-agent is executed on the host before any code of ours. sys.path, "sys.path[0]"
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence

WHAT = "a module that Python imports first when you start a script or `python -m` in its folder"

Version = tuple[int, int, int]
"""Of a file: inode, size, and when it was last changed (inode(7), ctime)."""


def modules_in(folders: Sequence[str], names: Collection[str]) -> dict[str, Version]:
    """The files of modules and packages of these names, with their versions."""
    found: dict[str, Version] = {}
    for folder in folders:
        for entry in _entries(folder):
            name, dot, _ = entry.name.partition(".")
            if name not in names:
                continue
            path = entry.path
            if not dot:  # a package; a folder without this file comes after all others
                path = f"{path}/__init__.py"
            elif not entry.name.endswith((".py", ".pyc", ".so")):
                continue
            try:
                status = os.lstat(path)
            except OSError:
                continue
            found[path] = (status.st_ino, status.st_size, status.st_ctime_ns)
    return found


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return
