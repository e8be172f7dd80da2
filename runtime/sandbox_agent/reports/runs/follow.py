"""The events of a run as they are written, until the run ends."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from sandbox_agent.errors import JournalError
from sandbox_agent.journal.events import AnyEvent, JournalOpened, SegmentEnded, SegmentStarted
from sandbox_agent.journal.file import (
    JOURNAL_FILE,
    check_version,
    decode_line,
    in_use,
    is_whole,
    open_regular_file,
)

_PART = 1 << 20


class End(enum.Enum):
    """Why nothing more comes."""

    SEGMENT = "the segment has ended"
    LOST = "nobody goes on with the run, and its last segment has no end"
    IDLE = "nobody goes on with the run, and no segment has begun"
    REMOVED = "the run was removed"
    STOPPED = "the reader wants no more"


class Follower:
    """Reads a journal while another process writes it.

    end: why nothing more comes; None while that is not known. Raises OSError if the journal cannot
    be opened; `events` raises JournalError and OSError.
    """

    def __init__(self, folder: Path) -> None:
        self.end: End | None = None
        self._path = folder / JOURNAL_FILE
        self._fd = open_regular_file(self._path)
        self._at = self._number = 0
        self._has_begun = self._is_open = self._took_tail = False

    def close(self) -> None:
        """Close the journal."""
        os.close(self._fd)

    def events(self, wait: Callable[[], bool] | None = None) -> Iterator[AnyEvent]:
        """The events. They end with the segment that is going, or that begins next in a program
        which holds the journal.

        wait: waits a moment; returns False if nobody wants more events. None to read what is there.
        """
        rounds = free = 0
        while self.end is None:
            # Before the end is read: what is written before the lock is given back is read too.
            held = self._is_held()
            ended = False
            for event in self._new(at_end=not held):
                if isinstance(event, SegmentStarted):
                    self._has_begun = self._is_open = True
                elif isinstance(event, SegmentEnded):
                    self._is_open, ended = False, True
                yield event
            rounds, free = rounds + 1, 0 if held else free + 1
            is_over = self._has_begun and not self._is_open
            if not os.fstat(self._fd).st_nlink:
                self.end = End.REMOVED
            # A new run opens its journal a moment before it locks it: look twice.
            elif wait is None or free > 1 or (is_over and (free or (ended and rounds > 1))):
                self.end = self._why()
            elif not wait():
                self.end = End.STOPPED

    def _why(self) -> End:
        if not self._has_begun:
            return End.IDLE
        return End.LOST if self._is_open else End.SEGMENT

    def _is_held(self) -> bool:
        try:
            return in_use(self._path, 0.0)
        except FileNotFoundError:
            return False

    def _new(self, *, at_end: bool) -> Iterator[AnyEvent]:
        """The events of the lines that are complete by now. at_end: nobody writes any more, so a
        last line that lacks only its newline is one."""
        pending = b""
        while part := os.pread(self._fd, _PART, self._at + len(pending)):
            *lines, pending = (pending + part).split(b"\n")
            for line in lines:
                self._at += len(line) + 1
                yield from self._event(line)
        if at_end and is_whole(pending):
            self._at += len(pending)
            yield from self._event(pending)
            self._took_tail = True

    def _event(self, line: bytes) -> Iterator[AnyEvent]:
        if self._took_tail and not line:
            self._took_tail = False  # the newline, which a resume has added
            return
        self._number += 1
        if self._number == 1:
            check_version(line, str(self._path))
        event = decode_line(line, str(self._path), self._number)
        if isinstance(event, JournalOpened) is not (self._number == 1):
            raise JournalError(f"{self._path}:{self._number}: an event out of its place")
        yield event
