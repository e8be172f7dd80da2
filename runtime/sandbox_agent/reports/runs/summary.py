"""One run in a list, from the first line and the last lines of its journal.

A list must be quick with a thousand runs. What stands in no end of a run (a run that was resumed,
one that is going, one that was killed) is counted from the lines that say it, and nothing else of
the journal is decoded.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from sandbox_agent.errors import JournalError
from sandbox_agent.journal.events import COMMAND, Ended, JournalOpened, SegmentEnded, UserText
from sandbox_agent.journal.file import (
    JOURNAL_FILE,
    ReadPart,
    check_version,
    decode_line,
    in_use,
    open_regular_file,
    read_from,
    split_lines,
)
from sandbox_agent.journal.folder import is_run_id
from sandbox_agent.journal.standing import backwards, first_line
from sandbox_agent.journal.usage import TokenUsage, rounded
from sandbox_agent.reports.report import LOST, RUNNING

IDLE = "idle"
"""The status of a run that was made, and of which no segment has begun."""
EMPTY = "empty"
"""The status of a folder whose agent died before it wrote the first event."""
UNREADABLE = "unreadable"
"""The status of a run whose journal is damaged, of another version, or not this user's."""

_COUNTED_BYTES = 64 * 1024 * 1024
"""The longest journal that is looked through for what its end does not say."""

_TURN = b'{"event":"model_turn"'
_END = b'{"event":"segment_ended"'


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A run in a list.

    status: a Status, LOST, EMPTY or UNREADABLE. begun, ended: ISO 8601, UTC; of the first event and
    of the last segment. exit_code, reason: of the last segment. segments, turns, tokens, cost_usd,
    seconds: of all segments; None if not known. error: why the run is unreadable.
    """

    run: str
    status: str
    folder: str
    name: str | None = None
    model: str = ""
    begun: str | None = None
    ended: str | None = None
    exit_code: int | None = None
    reason: str = ""
    segments: int | None = None
    turns: int | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None
    error: str | None = None

    @property
    def is_command(self) -> bool:
        """Whether this is a command of `exec`."""
        return (self.name, self.model) == (COMMAND, COMMAND)


class _Turn(msgspec.Struct, frozen=True):
    usage: TokenUsage | None = None


class _End(msgspec.Struct, frozen=True):
    requests: int
    seconds: float
    usage: TokenUsage | None = None


class _Counts:
    """What is added up over the segments."""

    def __init__(self) -> None:
        self.segments = self.turns = 0
        self.seconds = 0.0
        self.usage: TokenUsage | None = None
        self._open: list[TokenUsage | None] = []

    def turn(self, usage: TokenUsage | None) -> None:
        self._open.append(usage)

    def end(self, end: _End | SegmentEnded) -> None:
        self.segments += 1
        self.turns += end.requests
        self.seconds += end.seconds
        self._add(end.usage)
        self._open.clear()

    def finish(self) -> None:
        """The last segment has no end: what its turns say counts."""
        self.segments += 1
        self.turns += len(self._open)
        for usage in self._open:
            self._add(usage)

    def _add(self, usage: TokenUsage | None) -> None:
        if usage is not None:
            self.usage = usage if self.usage is None else self.usage.plus(usage)


def summary_of(folder: Path) -> Summary:
    """The run of a folder. Raises nothing for what a folder may hold or for whom it may be."""
    name = _shown_name(folder)
    try:
        fd = open_regular_file(folder / JOURNAL_FILE)
    except FileNotFoundError:
        return Summary(run=name, status=EMPTY, folder=str(folder))
    except OSError as error:
        return _unreadable(name, folder, error.strerror or str(error))
    try:
        return _read(name, folder, fd)
    except JournalError as error:
        return _unreadable(name, folder, str(error).partition("\n")[0])
    except OSError as error:
        return _unreadable(name, folder, error.strerror or str(error))
    finally:
        os.close(fd)


def _shown_name(folder: Path) -> str:
    return os.fsencode(folder.name).decode("utf-8", "replace")


def _unreadable(name: str, folder: Path, why: str) -> Summary:
    return Summary(run=name, status=UNREADABLE, folder=str(folder), error=why)


def _read(name: str, folder: Path, fd: int) -> Summary:
    journal = folder / JOURNAL_FILE
    # Before the end is read: a run that ends meanwhile is not taken for one that was killed.
    held = in_use(journal, 0.0)
    size, read = os.fstat(fd).st_size, read_from(fd)
    line = first_line(read, size)
    if line is None:
        return Summary(run=name, status=RUNNING if held else EMPTY, folder=str(folder))
    check_version(line, str(journal))
    opened = decode_line(line, str(journal), 1)
    assert isinstance(opened, JournalOpened)
    has_begun, end = _last_segment(read, size, str(journal))
    status = LOST if has_begun else IDLE
    if end is not None or held:
        status = RUNNING if end is None else end.status
    known = Summary(
        run=name,
        status=status,
        folder=str(folder),
        name=opened.name,
        model="" if opened.settings is None else opened.settings.model,
        begun=opened.at,
    )
    if end is not None:
        known = msgspec.structs.replace(
            known, ended=end.at, exit_code=end.exit_code, reason=end.reason
        )
    counts = _counted(read, size, end, has_begun)
    if counts is None:
        return known
    usage = counts.usage
    return msgspec.structs.replace(
        known,
        segments=counts.segments,
        turns=counts.turns,
        seconds=round(counts.seconds, 3),
        tokens=None if usage is None else usage.total,
        cost_usd=None if usage is None else rounded(usage.cost_usd),
    )


def _last_segment(read: ReadPart, size: int, name: str) -> tuple[bool, SegmentEnded | None]:
    """Whether a segment has begun, and the end of the last one."""
    for event in backwards(read, size, name):
        if isinstance(event, SegmentEnded):
            return True, event
        if isinstance(event, JournalOpened):
            return False, None
        # What the user says, and the ends that a resume gives to calls, come between two segments.
        if not isinstance(event, UserText | Ended):
            return True, None
    return False, None


def _counted(
    read: ReadPart, size: int, end: SegmentEnded | None, has_begun: bool
) -> _Counts | None:
    """The sums over all segments; None if the journal is too long to be looked through, or is
    damaged."""
    counts = _Counts()
    if end is not None and end.number == 1:
        counts.end(end)
        return counts
    if size > _COUNTED_BYTES:
        return None
    try:
        for _, line in split_lines(read, size):
            if line.startswith(_END):
                counts.end(msgspec.json.decode(line, type=_End))
            elif line.startswith(_TURN):
                counts.turn(msgspec.json.decode(line, type=_Turn).usage)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None  # damaged in the middle, which whoever reads it all is told
    if end is None and has_begun:
        counts.finish()
    return counts


def listed(folders: list[Path]) -> list[Summary]:
    """The runs of these folders, the newest first."""
    found = [summary_of(folder) for folder in folders]
    return sorted(
        found, key=lambda one: (one.begun or _begun_by_id(one.run), one.run), reverse=True
    )


def _begun_by_id(run: str) -> str:
    """When a run was begun, by its id, as the journal would say it; "" for another name."""
    if not is_run_id(run):
        return ""
    day, time = run[:8], run[9:18]
    clock = f"{time[:2]}:{time[2:4]}:{time[4:6]}.{time[6:]}"
    return f"{day[:4]}-{day[4:6]}-{day[6:]}T{clock}Z"
