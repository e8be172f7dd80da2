"""Records a conversation's events: in the journal, in the state in memory, and to `on_event`.

All three happen here, so they cannot differ.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sandbox_agent.embedding.warn import complain
from sandbox_agent.journal.events import (
    VERSION,
    AnyEvent,
    Ended,
    JournalOpened,
    RecordedSettings,
    Stamp,
)
from sandbox_agent.journal.file import JOURNAL_FILE, JournalWriter
from sandbox_agent.journal.folder import make_run_folder
from sandbox_agent.journal.lookup import COMMAND, note_order
from sandbox_agent.journal.state import RunState, unfinished

E = TypeVar("E", bound=AnyEvent)

OnEvent = Callable[[AnyEvent], object]


class Recorder:
    """The one writer of a run folder's journal.

    The folder is made with the first event: a conversation without events leaves nothing behind.
    Any thread may call `add`. Signal handlers must not. If one does so all the same, through
    `send_message`, lines stay whole, because the lock is reentrant.
    """

    def __init__(
        self,
        folder: Path,
        name: str | None,
        on_event: OnEvent | None,
        settings: RecordedSettings | None = None,
    ) -> None:
        self.folder = folder
        self.state = RunState()
        self._name = name
        self._settings = settings
        self._on_event = on_event
        self._lock = threading.RLock()
        self._writer: JournalWriter | None = None
        self._folder_made = False
        self._events: list[AnyEvent] = []
        self._written = 0

    def continue_journal(
        self, writer: JournalWriter, events: tuple[AnyEvent, ...], state: RunState
    ) -> None:
        """Continue an existing journal, before any event is added. events, state: what it holds.

        Each call that has no end gets one, which says what the journal proves. Raises OSError.
        """
        self._writer, self._folder_made = writer, True
        self._events, self._written, self.state = list(events), len(events), state
        self.end_open_calls(self.add)

    def end_open_calls(self, add: Callable[..., object]) -> None:
        """Add the end of every call that has none. Only when no call is going any more."""
        for call in self.state.open_calls():
            end = msgspec.structs.asdict(unfinished(call))
            add(
                Ended,
                **{name: value for name, value in end.items() if name not in ("at", "monotonic")},
            )

    @property
    def events(self) -> tuple[AnyEvent, ...]:
        """Every event so far."""
        return tuple(self._events)

    def add(self, kind: type[E], /, stamp: Stamp | None = None, **fields: Any) -> E:
        """Add one event. stamp: when it happened; None for now.

        Raises OSError if the journal cannot be written. The state has the event all the same,
        because it happened, and the event is written before the next one. So the file holds a
        prefix of the events in any case.
        """
        with self._lock:
            first = len(self._events)
            if not self._events:
                self._take(self._first())
            when = stamp or Stamp.now()
            event = kind(at=when.at, monotonic=when.monotonic, **fields)
            self._take(event)
            new = self._events[first:]
        try:
            self._write()
        finally:
            for item in new:
                self._call_listener(item)
        return event

    def make_folder(self) -> None:
        """Make the run's folder, unless it is made. Raises OSError."""
        with self._lock:
            if not self._folder_made:
                make_run_folder(self.folder)
                self._folder_made = True

    def sync(self) -> None:
        """Have the kernel write the journal to the disk. Blocks."""
        if self._writer is not None:
            self._writer.sync()

    def close(self) -> None:
        """Close the journal. A later event opens it again."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def _first(self) -> JournalOpened:
        when = Stamp.now()
        return JournalOpened(
            at=when.at,
            monotonic=when.monotonic,
            version=VERSION,
            run=self.folder.name,
            name=self._name,
            settings=self._settings,
        )

    def _take(self, event: AnyEvent) -> None:
        self.state.apply(event)
        self._events.append(event)

    def _write(self) -> None:
        with self._lock:
            is_new, is_first = not self._folder_made, not self._written
            self.make_folder()
            try:
                if self._writer is None:
                    self._writer = JournalWriter(self.folder / JOURNAL_FILE)
                while self._written < len(self._events):
                    self._writer.append(self._events[self._written])
                    self._written += 1
                if is_first and not (self._settings and self._settings.model == COMMAND):
                    note_order(self.folder)
            except BaseException:
                if is_new and not self._written:
                    self._remove_folder()
                raise

    def _remove_folder(self) -> None:
        """Leave no run without a single event: `last` would find it from then on."""
        self.close()
        with contextlib.suppress(OSError):
            (self.folder / JOURNAL_FILE).unlink(missing_ok=True)
            self.folder.rmdir()
            self._folder_made = False

    def _call_listener(self, event: AnyEvent) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception as error:
            complain(f"on_event raised {error!r}; the run goes on")
