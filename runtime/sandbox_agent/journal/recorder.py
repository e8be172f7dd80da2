"""Records a conversation's events: in the journal, in the state in memory, and to `on_event`.

All three happen here, so they cannot differ.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sandbox_agent_ipc.shortage import start_thread

from sandbox_agent.embedding.warn import complain
from sandbox_agent.journal import room
from sandbox_agent.journal.events import (
    BOX,
    COMMAND,
    VERSION,
    AnyEvent,
    Ended,
    JournalOpened,
    RecordedSettings,
    Stamp,
)
from sandbox_agent.journal.file import (
    JOURNAL_FILE,
    LOCK_PATIENCE,
    ROOM,
    JournalWriter,
    read_lines,
)
from sandbox_agent.journal.folder import claim_run_folder, make_run_folder
from sandbox_agent.journal.state import RunState, unfinished

E = TypeVar("E", bound=AnyEvent)

_GOING = 64
"""Calls that may be going at the same time."""
_RESULT = 36 * 1024
"""Bytes that the end of such a call takes: what a model gets of its output, and the rest."""
_SKIPPED = 256
"""Bytes that the end of a call takes that was never started."""

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
        run: str | None = None,
    ) -> None:
        self.folder = folder
        self._named = run  # the id of a run whose folder the user has named
        self.state = RunState()
        self._name = name
        self._settings = settings
        self._on_event = on_event
        self.also: OnEvent | None = None
        """A second listener, for one run."""
        self._lock = threading.RLock()
        self._writer: JournalWriter | None = None
        self._folder_made = False
        self._earlier: Callable[[], tuple[AnyEvent, ...]] | None = None
        self._events: list[AnyEvent] = []
        """Of this process. What was in the journal before stays on the disk."""
        self._written = 0
        self._records: list[int] = []

    @property
    def run(self) -> str:
        """The run's id. It is also the name of its folder, unless the user has named that."""
        opened = self.state.opened
        return opened.run if opened is not None else self._named or self.folder.name

    def continue_journal(self, writer: JournalWriter, state: RunState, end: int) -> None:
        """Continue an existing journal, before any event is added. state: what its first `end`
        bytes hold.

        Each call that has no end gets one, which says what the journal proves. Raises OSError.
        """

        def earlier() -> tuple[AnyEvent, ...]:
            lines = read_lines(writer.read_part, end, str(writer.path))
            return tuple(line.event for line in lines)

        self._writer, self._folder_made, self._earlier = writer, True, earlier
        self.state = state
        self.end_open_calls(self.add)

    def end_open_calls(self, add: Callable[..., object], call_id: str | None = None) -> None:
        """Add the end of every call that has none, or of this one. Only of calls that are not going
        any more."""
        for call in self.state.open_calls():
            if call_id not in (None, call.id):
                continue
            end = msgspec.structs.asdict(unfinished(call))
            add(
                Ended,
                **{name: value for name, value in end.items() if name not in ("at", "monotonic")},
            )

    @property
    def events(self) -> tuple[AnyEvent, ...]:
        """Every event so far. Those of a run that was resumed are read from its journal: raises
        OSError and JournalError if that is not possible."""
        earlier = () if self._earlier is None else self._earlier()
        return (*earlier, *self._events)

    @property
    def shortage(self) -> OSError | None:
        """The error of a disk that has no more room for the journal; None if it has."""
        return None if self._writer is None else self._writer.shortage

    def add(self, kind: type[E], /, stamp: Stamp | None = None, **fields: Any) -> E:
        """Add one event. stamp: when it happened; None for now.

        Raises OSError if the journal cannot be written. The state has the event all the same,
        because it happened, and the event is written before the next one. So the file holds a
        prefix of the events in any case.
        """
        with self._lock:
            first = len(self._events)
            self._take_first()
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

    def add_if_written(self, kind: type[E], /, **fields: Any) -> E:
        """As `add`, of an event that has not happened unless it is in the journal. Raises OSError
        if it is not; then nobody has heard of it. Also if the journal has left its place."""
        with self._lock:
            first = len(self._events)
            self._take_first()
            self._write()
            when = Stamp.now()
            event = kind(at=when.at, monotonic=when.monotonic, **fields)
            assert self._writer is not None
            self._writer.check_place()
            self._writer.append(event)
            self._take(event)
            self._written += 1
            new = self._events[first:]
        for item in new:
            self._call_listener(item)
        return event

    def make_folder(self) -> None:
        """Make the run's folder, unless it is made. Raises OSError."""
        with self._lock:
            if not self._folder_made:
                if self._named is None:
                    make_run_folder(self.folder)
                else:
                    claim_run_folder(self.folder)
                self._folder_made = True

    def sync(self) -> None:
        """Have the kernel write the journal to the disk. Blocks."""
        if self._writer is not None:
            self._writer.sync()

    def keep_record(self, fd: int) -> None:
        """Take the open file of a record that has room left. To free it takes a while: that is done
        when the next run begins, or with the journal's."""
        with self._lock:
            self._records.append(fd)

    def free_records(self) -> None:
        """Free the room of the records of earlier runs."""
        with self._lock:
            while self._records:
                fd = self._records.pop()
                room.give_back(fd)
                with contextlib.suppress(OSError):
                    os.close(fd)

    def give_back_room(self) -> None:
        """Free the room that was reserved on the disk. Only when no run is going."""
        with self._lock:
            self.free_records()
            if self._writer is not None:
                self._writer.give_back_room()

    @contextlib.contextmanager
    def giving_back_room(self) -> Iterator[None]:
        """Meanwhile the room is freed, in a thread: some disks need milliseconds. Only when no run
        is going. `close` frees it, too, where there is no thread."""
        freeing = threading.Thread(target=self.give_back_room, daemon=True)
        with contextlib.suppress(RuntimeError):
            if self._records or (self._writer is not None and self._writer.has_room):
                start_thread(freeing)
        try:
            yield
        finally:
            if freeing.is_alive():
                freeing.join()

    def close(self) -> None:
        """Close the journal. A later event opens it again."""
        with self._lock:
            self.free_records()
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def _take_first(self) -> None:
        """Begin the journal, unless that is done."""
        if self.state.opened is not None:
            return
        when = Stamp.now()
        opened = JournalOpened(
            at=when.at,
            monotonic=when.monotonic,
            version=VERSION,
            run=self.run,
            name=self._name,
            settings=self._settings,
        )
        self._take(opened)

    def _take(self, event: AnyEvent) -> None:
        self.state.apply(event)
        self._events.append(event)

    def _write(self) -> None:
        with self._lock:
            is_new = not self._folder_made
            is_first = not self._written and self._earlier is None
            self.make_folder()
            try:
                if self._writer is None:
                    # A reader may hold the lock for an instant, to see whether the run is going.
                    path = self.folder / JOURNAL_FILE
                    self._writer = JournalWriter(path, patience=LOCK_PATIENCE)
                opened = self.state.open_count
                self._writer.room = ROOM + _RESULT * min(opened, _GOING) + _SKIPPED * opened
                while self._written < len(self._events):
                    self._writer.append(self._events[self._written])
                    self._written += 1
                if is_first and not (self._settings and self._settings.model in (COMMAND, BOX)):
                    # Here, since a command has no order.
                    from sandbox_agent.journal.lookup import note_order

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
        also = self.also
        if also is not None:
            also(event)
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception as error:
            complain(f"on_event raised {error!r}; the run goes on")


class Unrecorded(Recorder):
    """Keeps no event, in memory nor on the disk: for a sandbox without a journal. Its listener gets
    the events all the same."""

    def add(self, kind: type[E], /, stamp: Stamp | None = None, **fields: Any) -> E:
        when = stamp or Stamp.now()
        event = kind(at=when.at, monotonic=when.monotonic, **fields)
        self._call_listener(event)
        return event

    def add_if_written(self, kind: type[E], /, **fields: Any) -> E:
        return self.add(kind, **fields)

    def make_folder(self) -> None:
        """There is none."""
