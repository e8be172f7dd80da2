"""Writes a conversation's events: to the journal, into the state_of, to whoever listens.

All three in one place, so that they cannot tell different stories.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sandbox_agent.embedding.warn import complain
from sandbox_agent.journal import file as journal
from sandbox_agent.journal import folder as run_folder
from sandbox_agent.journal.events import (
    VERSION,
    AnyEvent,
    Ended,
    JournalOpened,
    RecordedSettings,
    Stamp,
)
from sandbox_agent.journal.state import RunState, unfinished

E = TypeVar("E", bound=AnyEvent)

OnEvent = Callable[[AnyEvent], object]


class Recorder:
    """The one writer of a run folder's journal.

    The folder comes to be with the first event, so that a conversation which never says anything
    leaves nothing behind. `add` may be called from any thread. Signal handlers must not call it;
    if one does all the same, by `send_message`, the lock is reentrant and lines stay whole.
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
        self._writer: journal.JournalWriter | None = None
        self._folder_made = False
        self._events: list[AnyEvent] = []
        self._written = 0

    def go_on(
        self, writer: journal.JournalWriter, events: tuple[AnyEvent, ...], state: RunState
    ) -> None:
        """Take over a journal that is there, with what was read from it, before anything else.

        The calls that it leaves open get their ends, as far as it tells. Raises OSError.
        """
        self._writer, self._folder_made = writer, True
        self._events, self._written, self.state = list(events), len(events), state
        self.end_open_calls(self.add)

    def end_open_calls(self, add: Callable[..., object]) -> None:
        """Add the end of every call that has none, when it is certain that nobody else will."""
        for call in self.state.open_calls():
            end = msgspec.structs.asdict(unfinished(call))
            add(Ended, **{name: value for name, value in end.items() if name not in ("at", "t")})

    @property
    def events(self) -> tuple[AnyEvent, ...]:
        """Every event so far."""
        return tuple(self._events)

    def add(self, kind: type[E], /, stamp: Stamp | None = None, **fields: Any) -> E:
        """Add one event, stamped with now unless `stamp` says when it was.

        Raises OSError when the journal cannot be written. The event has been taken in then, and
        is written before the next one: what happened has happened, and the file holds a prefix
        of it in any case.
        """
        with self._lock:
            first = len(self._events)
            if not self._events:
                self._take(self._first())
            when = stamp or Stamp.now()
            event = kind(at=when.at, t=when.t, **fields)
            self._take(event)
            news = self._events[first:]
        try:
            self._write()
        finally:
            for item in news:
                self._tell(item)
        return event

    def make_folder(self) -> None:
        """Make the run's folder, unless that has been done. Raises OSError."""
        with self._lock:
            if not self._folder_made:
                run_folder.make_run_folder(self.folder)
                self._folder_made = True

    def sync(self) -> None:
        """Have the disk hold what was written. Blocks."""
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
            t=when.t,
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
            is_new = not self._folder_made
            self.make_folder()
            try:
                if self._writer is None:
                    self._writer = journal.JournalWriter(self.folder / journal.FILE_NAME)
                while self._written < len(self._events):
                    self._writer.append(self._events[self._written])
                    self._written += 1
            except BaseException:
                if is_new and not self._written:
                    self._remove_folder()
                raise

    def _remove_folder(self) -> None:
        """Leave no run that nothing is known of, which `last` would mean from then on."""
        self.close()
        with contextlib.suppress(OSError):
            (self.folder / journal.FILE_NAME).unlink(missing_ok=True)
            self.folder.rmdir()
            self._folder_made = False

    def _tell(self, event: AnyEvent) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception as error:
            complain(f"on_event raised {error!r}; the run goes on")
