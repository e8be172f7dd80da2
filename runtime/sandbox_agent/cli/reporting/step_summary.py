"""GitHub's file for the summary of a step. The runner makes it; a program appends to it.

It may lie where tools can write. So it is opened before the run: what a tool puts in its place
afterwards is not written to. A link that a tool of an earlier run left is not followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

VARIABLE = "GITHUB_STEP_SUMMARY"
_LONGEST = 1024 * 1024 - 1024
"""Bytes. GitHub takes 1 MiB for a step."""
_OPEN = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class StepSummary:
    """The file that the environment names. writable: folders that tools can write.

    Raises OSError if it must not be written to.
    """

    def __init__(self, writable: Sequence[Path]) -> None:
        self._path = os.environ[VARIABLE]
        within = [folder for folder in writable if _lies_in(self._path, folder)]
        if any(_has_link(self._path, folder) for folder in within):
            raise OSError(errno.ELOOP, "a link is on the way to it, which a tool may have made")
        self._fd = os.open(os.path.realpath(self._path), _OPEN, 0o666)
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode) or (within and status.st_nlink != 1):
            self.close()
            raise OSError(errno.EINVAL, "it is no ordinary file, or it has a second name")

    def append(self, summary: bytes) -> None:
        """Append to it. Raises OSError, also where it was replaced: nobody reads the old one."""
        data = summary[:_LONGEST]
        written = 0
        while written < len(data):
            written += os.write(self._fd, data[written:])
        try:
            found = os.stat(self._path)
        except OSError:
            found = None
        if found is None or not os.path.samestat(found, os.fstat(self._fd)):
            raise OSError(errno.ENOENT, "it was replaced while the run was going")

    def close(self) -> None:
        """Close the file. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _lies_in(path: str, folder: Path) -> bool:
    """Whether a path begins in a folder, or leads there."""
    top = os.path.realpath(folder)
    starts = ((os.path.abspath(path), os.path.abspath(folder)), (os.path.realpath(path), top))
    return any(Path(one).is_relative_to(start) for one, start in starts)


def _has_link(path: str, folder: Path) -> bool:
    """Whether a link below the folder is on the way from there to the path. Any link from
    elsewhere leads to where no link is."""
    given, start = os.path.abspath(path), os.path.abspath(folder)
    if not Path(given).is_relative_to(start):
        return False
    below = os.path.join(os.path.realpath(folder), os.path.relpath(given, start))
    return below != os.path.realpath(path)
