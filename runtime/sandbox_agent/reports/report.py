"""What a run's journal tells, in the form that every report is made from: text, JUnit, HTML.

Read from the journal alone, so it is the same for a run that is going, that has ended, and whose
agent was killed. Long texts are cut here, so the memory for a report is bounded by the number of
events. Nothing is escaped or masked yet: that is the task of whoever writes it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox_agent_ipc.messages import Image
from sandbox_agent_sandbox.outcome import LimitMet, Outcome, Rung, StartedState, Survivor

from sandbox_agent.journal import events
from sandbox_agent.journal.file import (
    JOURNAL_FILE,
    in_use,
    open_regular_file,
    read_from,
    read_lines,
)
from sandbox_agent.journal.usage import TokenUsage
from sandbox_agent.reports.bounded import bounded

HEAD = 4096
TAIL = 8192
"""Characters of a long text that are kept of its beginning and of its end, at most."""
_WORD = 256
"""Characters in which a text is cut between two words, if it has any there."""
_GAP = re.compile(r"\s")
IMAGES = 1 << 20
"""Bytes of all images of a run together that are kept, the first ones."""

LOST = "lost"
"""The status of a run that has no end and that no process goes on with: its agent was killed."""
RUNNING = "running"


@dataclass(frozen=True)
class Text:
    """A text, or the beginning and the end of a long one. left_out: characters between them."""

    head: str = ""
    tail: str = ""
    left_out: int = 0

    @classmethod
    def of(cls, text: str) -> Text:
        if len(text) <= HEAD + TAIL:
            return cls(text)
        # Between two words: half a secret is found by nobody who looks for it.
        head, tail = text[:HEAD], text[-TAIL:]
        for gap in _GAP.finditer(head, HEAD - _WORD):
            head = text[: gap.start()]
        if (gap_after := _GAP.search(tail, 0, _WORD)) is not None:
            tail = tail[gap_after.end() :]
        return cls(head, tail, len(text) - len(head) - len(tail))

    def __bool__(self) -> bool:
        return bool(self.head)

    def whole(self) -> str:
        """All that is kept, in one text that says what is left out."""
        if not self.left_out:
            return self.head
        return f"{self.head}\n[... {self.left_out} characters left out ...]\n{self.tail}"

    def last_lines(self, count: int = 20) -> list[str]:
        """The last lines that are kept. For a failure, where the end says why."""
        return (self.tail or self.head).splitlines()[-count:]


@dataclass
class Call:
    """A call of the model, or a `verify` command.

    number: of the turn that made it; 0 for `verify`. command: of `verify`; else None. arguments: as
    the model gave them, cut (`reports.bounded`). asked, begun, ended: seconds after the beginning
    of the segment; None if that did not happen. begun: the tool's code runs. outcome: None while it
    is in flight, and if the agent died then. images_left_out: those beyond `IMAGES`. cancels:
    (seconds, reason) of orders to stop this call alone. The others: `journal.events.Ended`.
    """

    id: str
    tool: str
    segment: int
    turn: int = 0
    command: str | None = None
    arguments: dict[str, Any] | str = ""
    timeout: float | None = None
    asked: float | None = None
    begun: float | None = None
    ended: float | None = None
    outcome: Outcome | None = None
    started: StartedState = StartedState.NO
    output: Text = Text()
    exit_status: int | None = None
    rung: Rung | None = None
    rungs_ms: dict[str, float] = field(default_factory=dict)
    survivors: tuple[Survivor, ...] = ()
    output_bytes: int = 0
    output_file: str | None = None
    detail: str = ""
    images: tuple[Image, ...] = ()
    images_left_out: int = 0
    private_files: tuple[str, ...] = ()
    made: bool = True
    limits: tuple[LimitMet, ...] = ()
    passed: bool | None = None
    cancels: list[tuple[float, str]] = field(default_factory=list)

    @property
    def is_verify(self) -> bool:
        return self.command is not None

    @property
    def failed(self) -> bool:
        """Whether it ended, and not well."""
        if self.is_verify:
            return self.passed is False or self.outcome not in (None, Outcome.OK)
        return self.outcome not in (None, Outcome.OK)


@dataclass
class Message:
    """The user told the agent something. at: ISO 8601, UTC. segment: 0 before the first.
    between: the segment had ended, so the next one hears it."""

    at: str
    segment: int
    text: Text
    between: bool = False


@dataclass
class Turn:
    """An answer of the model. seconds: after the beginning of the segment. calls: their ids."""

    number: int
    at: str
    segment: int
    seconds: float
    text: Text
    reasoning: Text
    final: bool
    calls: tuple[str, ...]
    usage: TokenUsage | None
    finish_reason: str
    finish_word: str


@dataclass
class Segment:
    """One `run()`. end: None while it is going, and if the agent died in it. cancels: (seconds,
    reason) of orders to stop the whole run. last: seconds of its last event."""

    number: int
    at: str
    pid: int
    model: str
    settings: dict[str, Any]
    plan: dict[str, Any] | None
    tools: tuple[str, ...]
    agents_md: events.AgentsFile | None = None
    end: events.SegmentEnded | None = None
    cancels: list[tuple[float, str]] = field(default_factory=list)
    last: float = 0.0
    monotonic: float = 0.0


@dataclass
class Report:
    """A run. run: the name of its folder. id: as the journal says; a folder may have another name.
    at: when its journal was begun. entries: messages and turns in their order. calls: by id, in
    their order; those of `verify` too. is_held: whether a process has the journal open to write, so
    that the run may go on."""

    run: str
    folder: Path
    name: str | None = None
    at: str = ""
    opened: events.RecordedSettings | None = None
    segments: list[Segment] = field(default_factory=list)
    entries: list[Message | Turn] = field(default_factory=list)
    calls: dict[str, Call] = field(default_factory=dict)
    is_held: bool = False
    id: str = ""
    _monotonic: float = 0.0
    _image_room: int = IMAGES

    @property
    def last(self) -> Segment | None:
        return self.segments[-1] if self.segments else None

    @property
    def end(self) -> events.SegmentEnded | None:
        """The end of the last segment; None if it has none."""
        return self.last.end if self.last else None

    @property
    def status(self) -> str:
        """A Status, or LOST."""
        if self.end is not None:
            return self.end.status
        if self.is_held:
            return RUNNING
        return LOST if self.last else "idle"

    @property
    def model(self) -> str:
        if self.last:
            return self.last.model
        return self.opened.model if self.opened else ""

    @property
    def turns(self) -> list[Turn]:
        return [entry for entry in self.entries if isinstance(entry, Turn)]

    @property
    def final_turn(self) -> Turn | None:
        """The agent's final message, if that is the last thing that was said."""
        last = self.entries[-1] if self.entries else None
        return last if isinstance(last, Turn) and last.final else None

    def verify_calls(self, segment: int | None = None) -> list[Call]:
        """The `verify` commands of a segment, by default of the last one."""
        wanted = segment if segment is not None else (self.last.number if self.last else 0)
        return [c for c in self.calls.values() if c.is_verify and c.segment == wanted]

    def usage(self) -> TokenUsage | None:
        """Of all segments that have ended, and of the turns of one that has not."""
        used = [s.end.usage for s in self.segments if s.end is not None and s.end.usage is not None]
        open_ones = {s.number for s in self.segments if s.end is None}
        used += [t.usage for t in self.turns if t.segment in open_ones and t.usage is not None]
        total = None
        for one in used:
            total = one if total is None else total.plus(one)
        return total

    def seconds(self) -> float:
        """Wall time of all segments together."""
        return sum(s.last if s.end is None else s.end.seconds for s in self.segments)

    def apply(self, event: events.AnyEvent) -> None:
        """The next event of the journal."""
        match event:
            case events.JournalOpened():
                self.id, self.name, self.at = event.run, event.name, event.at
                self.opened = event.settings
            case events.SegmentStarted():
                self._begin(event)
            case events.UserText():
                number = self.last.number if self.last else 0
                between = self.last is None or self.last.end is not None
                self.entries.append(Message(event.at, number, Text.of(event.text), between))
            case events.TurnTaken():
                self._take(event)
            case events.Dispatching():
                self._dispatch(event)
            case events.Started():
                call = self._call(event.call)
                call.begun, call.started = self._seconds(event), StartedState.YES
            case events.Ended():
                self._end_call(event)
            case events.CancelRequested():
                place = self.last if event.call is None else self._call(event.call)
                if place is not None:
                    place.cancels.append((self._seconds(event), event.reason))
            case events.Verified():
                self._call(event.call).passed = event.passed
            case events.SegmentEnded():
                if self.last is not None:
                    self.last.end = event
        if self.last is not None and self.last.end in (None, event) and not _is_late(event):
            self.last.last = max(self.last.last, self._seconds(event))

    def _begin(self, event: events.SegmentStarted) -> None:
        self._monotonic = event.monotonic
        if self.last is not None and self.last.end is None:
            self._move_unheard(self.last.number)
        self.segments.append(
            Segment(
                number=event.number,
                at=event.at,
                pid=event.pid,
                model=event.settings.model,
                settings=event.settings.task,
                plan=event.plan,
                tools=tuple(entry.spec.name for entry in event.tools),
                monotonic=event.monotonic,
                agents_md=event.agents_md,
            )
        )

    def _move_unheard(self, segment: int) -> None:
        """The agent died in this segment. What was said last is heard by the next one."""
        for entry in reversed(self.entries):
            if not isinstance(entry, Message) or entry.segment != segment:
                break
            entry.between = True

    def _take(self, event: events.TurnTaken) -> None:
        number = self.last.number if self.last else 0
        for call in event.calls:
            arguments = bounded(call.arguments)
            made = Call(call.id, call.tool, number, event.turn, arguments=arguments)
            made.asked = self._seconds(event)
            self.calls[call.id] = made
        self.entries.append(
            Turn(
                number=event.turn,
                at=event.at,
                segment=number,
                seconds=self._seconds(event),
                text=Text.of(event.text),
                reasoning=Text.of(event.reasoning),
                final=event.final,
                calls=tuple(call.id for call in event.calls),
                usage=event.usage,
                finish_reason=event.finish_reason,
                finish_word=event.finish_word,
            )
        )

    def _dispatch(self, event: events.Dispatching) -> None:
        call = self._call(event.call, event.tool)
        call.started, call.timeout = StartedState.MAYBE, event.timeout
        if event.command is not None:
            call.command, call.asked = event.command, self._seconds(event)

    def _end_call(self, event: events.Ended) -> None:
        call, last = self._call(event.call), self.last
        in_time = last is not None and last.end is None and call.segment == last.number
        if in_time and not _is_late(event):
            call.ended = self._seconds(event)
        call.outcome, call.started = event.outcome, event.started
        call.output = Text.of(event.content)
        call.exit_status, call.detail, call.made = event.exit_status, event.detail, event.made
        call.rung, call.rungs_ms, call.survivors = event.rung, event.rungs_ms, event.survivors
        call.output_bytes, call.output_file = event.output_bytes, event.output_file
        call.private_files, call.limits = event.private_files, event.limits
        self._keep_images(call, event.images)

    def _keep_images(self, call: Call, images: tuple[Image, ...]) -> None:
        kept = []
        for image in images:
            if len(image.data) <= self._image_room:
                self._image_room -= len(image.data)
                kept.append(image)
        call.images, call.images_left_out = tuple(kept), len(images) - len(kept)

    def _call(self, call_id: str, tool: str = "") -> Call:
        """The call, also of a journal that never said that it was made."""
        number = self.last.number if self.last else 0
        return self.calls.setdefault(call_id, Call(call_id, tool, number))

    def _seconds(self, event: events.AnyEvent) -> float:
        """After the beginning of the segment. The clock of another segment says nothing."""
        return min(1e9, max(0.0, event.monotonic - self._monotonic)) if self.segments else 0.0


def _is_late(event: events.AnyEvent) -> bool:
    """Whether an event may come long after the agent's death: a resume ends the calls that were in
    flight, without a word, and adds a message, before its own segment begins."""
    if isinstance(event, events.Ended):
        return event.outcome in _LATE and not event.detail and not event.content
    return isinstance(event, events.UserText)


_LATE = (Outcome.UNKNOWN, Outcome.SKIPPED)


def report_of(run: str, folder: Path, journal: Iterable[events.AnyEvent]) -> Report:
    """The report of these events."""
    report = Report(run, folder)
    for event in journal:
        report.apply(event)
    return report


def read_report(folder: Path) -> Report:
    """The report of a run folder. Raises JournalError for a journal that is damaged or of another
    version, and OSError if it cannot be read."""
    journal = folder / JOURNAL_FILE
    fd = open_regular_file(journal)
    try:
        held = in_use(journal)
        size = os.fstat(fd).st_size
        lines = read_lines(read_from(fd), size, str(journal))
        report = report_of(folder.name, folder, (line.event for line in lines))
    finally:
        os.close(fd)
    report.is_held = held
    return report
