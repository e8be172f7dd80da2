"""The state of a run, computed from the journal's events alone.

A live conversation has a `RunState` too, and applies each event as it is written. So the state in
memory and the state that a later process computes from the file cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, cast

import msgspec
from sandbox_agent_sandbox.outcome import Outcome, StartedState

from sandbox_agent.errors import JournalError
from sandbox_agent.journal.events import (
    PAUSED,
    AnyEvent,
    CancelRequested,
    Dispatching,
    Ended,
    JournalOpened,
    RecordedSettings,
    SegmentEnded,
    SegmentStarted,
    Stamp,
    Started,
    ToolCall,
    TurnTaken,
    UserText,
    Verified,
)
from sandbox_agent.journal.file import damaged, read_lines
from sandbox_agent.journal.history import (
    AssistantMessage,
    History,
    Kept,
    Message,
    ToolMessage,
    UserMessage,
    tool_text,
)
from sandbox_agent.journal.status import Status
from sandbox_agent.journal.stored import Loaded, Source, Stored, stored


class Phase(Enum):
    """How far a call has come, as the journal shows it. A call only moves down this list."""

    ASKED = 0
    DISPATCHING = 1
    STARTED = 2
    ENDED = 3


class CallState(msgspec.Struct, frozen=True, gc=False):
    """One call. verify: whether it is a `verify` command, so not a call of the model.

    brief: its end, None if it has none. Its content and its images may be left out; `ended` has
    them. stored: where the whole end is, if they are left out.
    """

    id: str
    tool: str
    phase: Phase
    verify: bool = False
    brief: Ended | None = None
    stored: Stored[Ended] | None = None

    @property
    def ended(self) -> Ended | None:
        """Its end, None if it has none. Raises NotRecorded if it cannot be read from the disk."""
        return self.brief if self.stored is None else self.stored.load()


class RunState(msgspec.Struct, dict=True, weakref=True):
    """The state of a run. `apply` events in their order.

    conversation: user messages and model turns, in order. user_messages: how many are the user's.
    turns: how many turns there were. models: the model's name by turn number. calls: every call by
    id, in the order in which the model made them. verified: the `verify` events of the last
    segment. segment: the last one that began. segment_end: its end; None while it is going, or if
    the agent died in it.

    Applying an event costs the same however long the run is. So does every question that a run
    asks at each turn.
    """

    opened: JournalOpened | None = None
    conversation: Loaded[UserText | TurnTaken] = msgspec.field(default_factory=Loaded)
    user_messages: int = 0
    turns: int = 0
    models: dict[int, str] = msgspec.field(default_factory=dict)
    calls: dict[str, CallState] = msgspec.field(default_factory=dict)
    verified: list[Verified] = msgspec.field(default_factory=list)
    segment: SegmentStarted | None = None
    segment_end: SegmentEnded | None = None
    _messages: list[Kept] = msgspec.field(default_factory=list)
    _answers: int = 0
    _places: dict[str, int] = msgspec.field(default_factory=dict)
    """The index in `_messages` of the result of each call without an end, by call id."""
    _last: UserText | TurnTaken | None = None
    """The last of the conversation."""
    _has_stored: bool = False
    """Whether some events are loaded from the disk when they are asked for."""

    def apply(self, event: AnyEvent) -> None:
        """Apply one event. Raises JournalError if it cannot follow the events before it."""
        self._apply(event, None)

    def _apply(self, event: AnyEvent, place: Stored[Any] | None) -> None:
        """place: where the event is loaded from when it is asked for; None to keep it."""
        self._has_stored = self._has_stored or place is not None
        match event:
            case JournalOpened():
                self.opened = event
            case SegmentStarted():
                if self.segment is not None and event.number <= self.segment.number:
                    raise JournalError(f"segment {event.number} began before; {_DAMAGED}")
                self.segment, self.segment_end = event, None
                self.verified.clear()
            case UserText():
                self.conversation.append(place or event)
                self._last = event
                self.user_messages += 1
                self._messages.append(place or UserMessage(event.text))
            case TurnTaken():
                self._take(event, place)
            case Dispatching():
                if event.command is not None:
                    self._add_call(ToolCall(event.call, event.tool, {}), verify=True)
                self._move(event.call, Phase.DISPATCHING)
            case Started():
                self._move(event.call, Phase.STARTED)
            case Ended():
                self._move(event.call, Phase.ENDED, event, place)
            case Verified():
                if event.call not in self.calls:
                    raise JournalError(f"call {event.call} was never made; {_DAMAGED}")
                self.verified.append(event)
            case SegmentEnded():
                if event.status not in _STATUSES:
                    raise JournalError(f"{event.status!r} is not a status of a run; {_DAMAGED}")
                self.segment_end = event
            case CancelRequested():
                pass

    def _take(self, turn: TurnTaken, place: Stored[TurnTaken] | None) -> None:
        if turn.turn <= self.turns:
            raise JournalError(f"turn {turn.turn} was taken before; {_DAMAGED}")
        model = self.segment.settings.model if self.segment is not None else ""
        self.conversation.append(place or turn)
        self._last = turn
        self.turns = turn.turn
        self.models[turn.turn] = model
        self._answers += 1
        self._messages.append(place or _answer(turn, model))
        for call in turn.calls:
            self._add_call(call)
            self._places[call.id] = len(self._messages)
            self._messages.append(None)

    def _add_call(self, call: ToolCall, *, verify: bool = False) -> None:
        if call.id in self.calls:
            raise JournalError(f"call {call.id} is made twice; {_DAMAGED}")
        self.calls[call.id] = CallState(call.id, call.tool, Phase.ASKED, verify)

    def _move(
        self,
        call_id: str,
        to: Phase,
        ended: Ended | None = None,
        place: Stored[Ended] | None = None,
    ) -> None:
        call = self.calls.get(call_id)
        if call is None:
            raise JournalError(f"call {call_id} was never made; {_DAMAGED}")
        if to.value <= call.phase.value:
            raise JournalError(
                f"call {call_id} cannot go from {call.phase.name.lower()} to {to.name.lower()}; "
                f"{_DAMAGED}"
            )
        if ended is not None and place is not None:
            ended = msgspec.structs.replace(ended, content="", images=())
        self.calls[call_id] = call = CallState(call.id, call.tool, to, call.verify, ended, place)
        if ended is not None and call_id in self._places:
            self._messages[self._places.pop(call_id)] = place or _result(call, ended)

    @property
    def open_count(self) -> int:
        """How many calls of the model have no end."""
        return len(self._places)

    def open_calls(self) -> list[CallState]:
        """Calls without an end: in flight, or, of a run whose agent died, in flight then."""
        return [call for call in self.calls.values() if call.brief is None]

    def history(self) -> History:
        """The messages for the model. Valid after every prefix of a journal: the result of a call
        without an end says what is known about it, see `unfinished`."""
        # The result of a call that has not ended will change, but a history must not.
        messages = list(self._messages) if self._places else self._messages
        for call_id, place in self._places.items():
            call = self.calls[call_id]
            messages[place] = _result(call, unfinished(call))
        make = self._load if self._has_stored else None
        return History(cast(list[Message], messages), self._answers, make)

    def _load(self, place: Stored[Any]) -> Message:
        event = place.load()
        match event:
            case UserText():
                return UserMessage(event.text)
            case TurnTaken():
                return _answer(event, self.models[event.turn])
        return _result(self.calls[event.call], event)

    def results(self, calls: Sequence[ToolCall]) -> list[ToolMessage]:
        """The results of these calls, as the model gets them."""
        states = [self.calls[call.id] for call in calls]
        return [_result(call, call.ended or unfinished(call)) for call in states]

    def unanswered(self) -> bool:
        """Whether the user sent a message after the model's last turn."""
        return isinstance(self._last, UserText)

    def final_words(self) -> str | None:
        """The agent's final message, if it has not been judged yet: the agent died or was stopped
        before `verify` had run. Else None."""
        judged = self.segment_end is not None and self.segment_end.status in _VERDICTS
        return None if judged else self.last_words()

    def last_words(self) -> str | None:
        """The agent's final message, judged or not; None if it said nothing final or was told
        something since."""
        last = self._last
        if not isinstance(last, TurnTaken) or not last.final or last.calls:
            return None
        return self.words_before_pause(1) + last.text

    def words_before_pause(self, newer: int = 0) -> str:
        """The text of the last answers if their provider paused them: the next answer continues
        them. newer: how many of the last entries came after that."""
        texts: list[str] = []
        for place in range(len(self.conversation) - newer - 1, -1, -1):
            turn = self.conversation[place]
            if not isinstance(turn, TurnTaken) or turn.finish_reason != PAUSED or turn.calls:
                break
            texts.append(turn.text)
        return "".join(f"{text.rstrip()}\n" for text in reversed(texts) if text.strip())

    def settings(self) -> RecordedSettings | None:
        """The settings of the last segment, or of the first if none has begun. None if the journal
        ends before it tells them."""
        begun = self.segment or self.opened
        return None if begun is None else begun.settings

    def status(self) -> Status:
        """How the last segment ended; ERROR if the agent died in it."""
        if self.segment_end is not None:
            return Status(self.segment_end.status)
        return Status.IDLE if self.segment is None else Status.ERROR


_VERDICTS = (Status.DONE, Status.FAILED)
_STATUSES = frozenset(status.value for status in Status)
_DAMAGED = "the journal is damaged"


def _answer(turn: TurnTaken, model: str) -> AssistantMessage:
    return AssistantMessage(
        turn.text, turn.calls, model, turn.reasoning, turn.provider_state, turn.is_cut
    )


def _result(call: CallState, ended: Ended) -> ToolMessage:
    text = tool_text(ended)
    return ToolMessage(call.id, call.tool, text, ended.outcome, ended.started, ended.images)


def unfinished(call: CallState) -> Ended:
    """The end of a call that has none because the agent died: what the journal proves about it."""
    outcome, started = {
        Phase.ASKED: (Outcome.SKIPPED, StartedState.NO),
        Phase.DISPATCHING: (Outcome.UNKNOWN, StartedState.MAYBE),
        Phase.STARTED: (Outcome.UNKNOWN, StartedState.YES),
    }[call.phase]
    now = Stamp.now()
    return Ended(at=now.at, monotonic=now.monotonic, call=call.id, outcome=outcome, started=started)


def state_of(events: tuple[AnyEvent, ...]) -> RunState:
    """The state after these events."""
    state = RunState()
    for event in events:
        state.apply(event)
    return state


def load_state(source: Source, size: int) -> tuple[RunState, int]:
    """The state after the first `size` bytes of a journal, and where its last whole line ends. Long
    events stay on the disk.

    Raises JournalError with the line that cannot be read or cannot follow, and OSError.
    """
    state, end = RunState(), 0
    for line in read_lines(source.read, size, source.name):
        try:
            state._apply(line.event, stored(source, line))
        except JournalError as error:
            raise at_line(source.name, line.number, error) from None
        end = line.offset + line.length
    return state, end


def at_line(name: str, number: int, error: JournalError) -> JournalError:
    """`error` of `apply`, with the line of the journal `name`."""
    return damaged(name, number, str(error).removesuffix(f"; {_DAMAGED}"))
