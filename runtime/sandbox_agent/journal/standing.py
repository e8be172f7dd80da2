"""How a run stands, from what its folder says: is it going, how did it end, or is its agent dead?

Only the first line and the last lines of the journal are read, so a journal of any size costs the
same. The journal is the truth: a record that says something else about an end does not count.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from sandbox_agent_sandbox.outcome import Survivor

from sandbox_agent.errors import JournalError
from sandbox_agent.journal.events import (
    AnyEvent,
    Ended,
    JournalOpened,
    SegmentEnded,
    UserText,
)
from sandbox_agent.journal.file import (
    JOURNAL_FILE,
    ReadPart,
    check_version,
    complete_length,
    decode_line,
    is_whole,
    open_regular_file,
    read_from,
    read_regular_file,
)
from sandbox_agent.journal.result_file import RESULT_FILE
from sandbox_agent.journal.status import Status

_PART = 64 * 1024
"""Bytes that are read at once."""

_OUTSIDE = (JournalOpened, UserText, Ended)
"""Events that may come between two segments. Every other one comes within a segment."""


class Head(msgspec.Struct, frozen=True):
    """The part of `result.json` that does not grow with the run. See `Record`."""

    status: Status
    reason: str
    pid: int
    segment: int
    survivors: tuple[Survivor, ...] = ()


class Standing(msgspec.Struct, frozen=True):
    """is_empty: whether the journal has no event. end: of the last segment; None while that is
    going, and if its agent died in it. record: what the record says; None if there is none."""

    is_empty: bool
    end: SegmentEnded | None
    record: Head | None

    @property
    def begun(self) -> Head | None:
        """What the record says about a segment that has begun and not ended; None if it has."""
        record = self.record
        if record is None or record.status is not Status.RUNNING:
            return None
        # The agent may have died after it wrote an end, or before it wrote the next beginning.
        return record if self.end is None or self.end.number < record.segment else None


def standing_of(folder: Path) -> Standing:
    """How the run of this folder stands.

    Raises JournalError if one of the lines that are read is damaged, or the journal is of another
    version; OSError if it cannot be read.
    """
    journal = folder / JOURNAL_FILE
    fd = open_regular_file(journal)
    try:
        size, read = os.fstat(fd).st_size, read_from(fd)
        if (first := first_line(read, size)) is None:
            return Standing(True, None, _head(folder))
        check_version(first, str(journal))
        end = None
        for event in backwards(read, size, str(journal)):
            if isinstance(event, SegmentEnded):
                end = event
            if not isinstance(event, _OUTSIDE):
                break
    finally:
        os.close(fd)
    return Standing(False, end, _head(folder))


def _head(folder: Path) -> Head | None:
    try:
        return msgspec.json.decode(read_regular_file(folder / RESULT_FILE), type=Head)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return None


def first_line(read: ReadPart, size: int) -> bytes | None:
    """The first line of a journal; None if it is not complete."""
    data = b""
    while len(data) < size and (part := read(len(data), _PART)):
        data += part
        if (newline := data.find(b"\n")) >= 0:
            return data[:newline]
    return data if is_whole(data) else None


def backwards(read: ReadPart, size: int, name: str) -> Iterator[AnyEvent]:
    """The events of the complete lines, the last one first. Raises JournalError."""
    whole = complete_length(read, size)
    tail = _read(read, whole, size)
    if is_whole(tail):
        yield _event(tail, read, whole, name)
    end = whole
    while end > 0:
        start = complete_length(read, end - 1)
        yield _event(_read(read, start, end - 1), read, start, name)
        end = start


def _read(read: ReadPart, start: int, end: int) -> bytes:
    parts = []
    while start < end and (part := read(start, end - start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def _event(line: bytes, read: ReadPart, offset: int, name: str) -> AnyEvent:
    try:
        return decode_line(line, name, 0)
    except JournalError:
        # Only a message needs the number of the line.
        lines = sum(
            _read(read, at, min(at + _PART, offset)).count(b"\n") for at in range(0, offset, _PART)
        )
        return decode_line(line, name, lines + 1)
