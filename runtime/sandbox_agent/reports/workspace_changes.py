"""What a run changed in the workspace: compares snapshots from before and after.

Nothing in the workspace is executed or trusted. `git status` would follow the workspace's git
configuration, which may name programs to start, and tools may have written it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox_agent.reports.escape import one_line

MAX_FILES = 10_000
"""Files that are compared. The summary says if a workspace has more."""
MAX_LINES = 20

_LEFT_OUT = frozenset(
    {".git", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}
)

_Seen = tuple[int, int, int, int]  # size, mtime in ns, inode, file type


@dataclass(frozen=True)
class Snapshot:
    """The files of a folder. complete: False if there are more than MAX_FILES."""

    files: dict[str, _Seen]
    complete: bool

    @classmethod
    def take(cls, root: Path, leave_out: Collection[Path] = ()) -> Snapshot:
        """All files below `root`, except `leave_out` and what is in it. Follows no links; skips
        what it cannot read."""
        files: dict[str, _Seen] = {}
        for name, seen in _walk(root, leave_out):
            if len(files) >= MAX_FILES:
                return cls(files, False)
            files[name] = seen
        return cls(files, True)


def _walk(root: Path, leave_out: Collection[Path]) -> Iterator[tuple[str, _Seen]]:
    todo = [""]
    while todo:
        folder = todo.pop()
        try:
            with os.scandir(root / folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except (OSError, ValueError):  # ValueError: a null byte in a name from a damaged journal
            continue
        for entry in entries:
            if entry.name in _LEFT_OUT or root / folder / entry.name in leave_out:
                continue
            name = os.path.join(folder, entry.name)
            try:
                info = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(info.st_mode):
                todo.append(name)
            else:
                yield (
                    name,
                    (
                        info.st_size,
                        info.st_mtime_ns,
                        info.st_ino,
                        stat.S_IFMT(info.st_mode),
                    ),
                )


def summary(before: Snapshot, after: Snapshot) -> list[str]:
    """The number of changed files, and a line for each: `M app.py  120 -> 134 bytes`."""
    lines: list[str] = []
    for name in sorted(before.files.keys() | after.files.keys(), key=os.fsencode):
        old, new = before.files.get(name), after.files.get(name)
        shown = one_line(name)
        if old is None and new is not None and before.complete:
            lines.append(f"A {shown}  {new[0]} bytes")
        elif new is None and after.complete:
            lines.append(f"D {shown}")
        elif old is not None and new is not None and old != new:
            # An editor that replaces a file may keep its size, but not its inode.
            sizes = f"{old[0]} -> {new[0]} bytes" if old[0] != new[0] else f"{new[0]} bytes"
            lines.append(f"M {shown}  {sizes}")
    count = len(lines)
    if count > MAX_LINES:
        lines[MAX_LINES:] = [f"... and {count - MAX_LINES} more"]
    head = "nothing changed" if not count else f"{count} file{'s' * (count != 1)} changed"
    if not (before.complete and after.complete):
        head += f" among the {MAX_FILES} files that were compared"
    return [head, *("  " + line for line in lines)]
