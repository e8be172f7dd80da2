"""How much tools have added to a disk.

statvfs(3) is cheap, but it counts what other programs write, too. The sizes of files are added up
only when it says that a limit may have been passed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from threading import Event

FILE = 4096
"""Bytes that a file counts at least: a disk has an end of its inodes, too."""

_VERY_LARGE = 2**62

_CLOCK_REALTIME_COARSE = 5


def file_clock() -> int:
    """The clock of `st_ctime_ns`, which runs by ticks. clock_gettime(2)"""
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)


class Filled:
    """One limit of bytes on one disk.

    folders: what tools write there; paths, or a descriptor. limit: bytes. since: only what has
    changed after this time counts, in nanoseconds as in `st_ctime_ns`, which no tool can set; 0 for
    everything. written: gives how many bytes the processes that are alive have written, as the
    kernel counts them for each. stopped: set when the sandbox closes; a look then ends early.
    Raises OSError.
    """

    def __init__(
        self,
        folders: Sequence[str | int],
        limit: int,
        since: int,
        written: Callable[[], int],
        stopped: Event,
    ) -> None:
        self._stopped = stopped
        self._folders = folders
        self._limit = limit
        self._since = since
        self._written = written
        self._first = _used(folders[0])
        self._look_at = limit
        self._counts = limit
        self._not_before = 0.0
        self._looked_at = self._first

    def passed(self) -> int | None:
        """How much was added, if that is more than the limit and grows; else None. Raises
        OSError."""
        used, now = _used(self._folders[0]), time.monotonic()
        self._first = min(self._first, used)  # others have freed something
        grown = used - self._first
        # While others free as much as tools add, the disk does not become fuller.
        hidden = abs(used - self._looked_at) >= self._limit // 16
        if now < self._not_before or (grown < self._look_at and not hidden):
            return None
        changed, fresh = added_below(self._folders, self._since, self._stopped.is_set)
        # A twentieth of a processor, and less where the disk does not ask for it.
        spent = time.monotonic() - now
        self._not_before = now + (20 * spent if grown >= self._look_at else max(1.0, 50 * spent))
        self._looked_at = used
        added = min(grown, max(self._written(), changed)) if grown >= self._look_at else fresh
        if grown >= self._look_at:  # else others fill this disk, too
            self._look_at = grown + max((self._limit - added) // 2, self._limit // 16)
        if added < self._counts:
            return None
        # The next call may remove something. It is stopped if it goes on writing.
        self._counts = added + self._limit // 16
        return added


def _used(place: str | int) -> int:
    now = os.statvfs(place)
    return (now.f_blocks - now.f_bfree) * now.f_frsize + (now.f_files - now.f_ffree) * FILE


def added_below(
    folders: Iterable[str | int], since: int, stopped: Callable[[], bool] = lambda: False
) -> tuple[int, int]:
    """Two sums of file sizes, in bytes: of the files that have changed since a time (`st_ctime`),
    and of those among them whose `st_mtime` is later, too. A tool can set `st_mtime` back, by
    utime(2). Follows no link and enters no other disk. since: in nanoseconds.

    What cannot be looked at, and has changed, counts as very large: a tool could hide files there.
    """
    total, fresh, twice = 0, 0, set[tuple[int, int]]()
    waiting: list[str | int] = list(folders)
    devices = {os.stat(place).st_dev for place in waiting}
    while waiting and not stopped():
        place = waiting.pop()
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if status.st_dev not in devices:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        name = entry.path if isinstance(place, str) else _path(place, entry.name)
                        waiting.append(name)
                    elif status.st_nlink > 1:
                        key = status.st_dev, status.st_ino
                        if key in twice:
                            continue
                        twice.add(key)
                    if status.st_ctime_ns >= since:
                        size = max(status.st_blocks * 512, FILE)
                        total += size
                        fresh += size if status.st_mtime_ns >= since else 0
        except FileNotFoundError:
            continue
        except OSError:
            if _changed(place, since):
                total = _VERY_LARGE
    return total, fresh


def _path(folder: int, name: str) -> str:
    return f"/proc/self/fd/{folder}/{name}"


def _changed(place: str | int, since: int) -> bool:
    try:
        return os.stat(place).st_ctime_ns >= since
    except FileNotFoundError:
        return False
    except OSError:
        return True
