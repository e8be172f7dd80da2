"""The state of a run, computed from the journal's events alone.

A live conversation has a `RunState` too, and applies each event as it is written. So the state in
memory and the state that a later process computes from the file cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

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
from sandbox_agent.journal.history import (
    AssistantMessage,
    History,
    Message,
    ToolMessage,
    UserMessage,
    tool_text,
)
from sandbox_agent.journal.status import Status


class Phase(Enum):
    """How far a call has come, as the journal shows it. A call only moves down this list."""

    ASKED = 0
    DISPATCHING = 1
    STARTED = 2
    ENDED = 3


@dataclass(frozen=True)
class CallState:
    """One call. verify: whether it is a `verify` command, so not a call of the model."""

    id: str
    tool: str
    phase: Phase
    verify: bool = False
    ended: Ended | None = None


@dataclass
class RunState:
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
    conversation: list[UserText | TurnTaken] = field(default_factory=list)
    user_messages: int = 0
    turns: int = 0
    models: dict[int, str] = field(default_factory=dict)
    calls: dict[str, CallState] = field(default_factory=dict)
    verified: list[Verified] = field(default_factory=list)
    segment: SegmentStarted | None = None
    segment_end: SegmentEnded | None = None
    _messages: list[Message] = field(default_factory=list)
    _answers: int = 0
    _places: dict[str, int] = field(default_factory=dict)
    """The index in `_messages` of the result of each call without an end, by call id."""

    def apply(self, event: AnyEvent) -> None:
        """Apply one event. Raises JournalError if it cannot follow the events before it."""
        match event:
            case JournalOpened():
                self.opened = event
            case SegmentStarted():
                self.segment, self.segment_end = event, None
                self.verified.clear()
            case UserText():
                self.conversation.append(event)
                self.user_messages += 1
                self._messages.append(UserMessage(event.text))
            case TurnTaken():
                self._take(event)
            case Dispatching():
                if event.command is not None:
                    self._add_call(ToolCall(event.call, event.tool, {}), verify=True)
                self._move(event.call, Phase.DISPATCHING)
            case Started():
                self._move(event.call, Phase.STARTED)
            case Ended():
                self._move(event.call, Phase.ENDED, event)
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

    def _take(self, turn: TurnTaken) -> None:
        model = self.segment.settings.model if self.segment is not None else ""
        self.conversation.append(turn)
        self.turns = turn.turn
        self.models[turn.turn] = model
        self._answers += 1
        answer = AssistantMessage(
            turn.text, turn.calls, model, turn.reasoning, turn.provider_state, turn.is_cut
        )
        self._messages.append(answer)
        for call in turn.calls:
            self._add_call(call)
            self._places[call.id] = len(self._messages)
            self._messages.append(_result(self.calls[call.id]))

    def _add_call(self, call: ToolCall, *, verify: bool = False) -> None:
        if call.id in self.calls:
            raise JournalError(f"call {call.id} is made twice; {_DAMAGED}")
        self.calls[call.id] = CallState(call.id, call.tool, Phase.ASKED, verify)

    def _move(self, call_id: str, to: Phase, ended: Ended | None = None) -> None:
        call = self.calls.get(call_id)
        if call is None:
            raise JournalError(f"call {call_id} was never made; {_DAMAGED}")
        if to.value <= call.phase.value:
            raise JournalError(
                f"call {call_id} cannot go from {call.phase.name.lower()} to {to.name.lower()}; "
                f"{_DAMAGED}"
            )
        self.calls[call_id] = call = replace(call, phase=to, ended=ended)
        if (place := self._places.get(call_id)) is not None:
            self._messages[place] = _result(call)
            if ended is not None:
                del self._places[call_id]

    def open_calls(self) -> list[CallState]:
        """Calls without an end: in flight, or, of a run whose agent died, in flight then."""
        return [call for call in self.calls.values() if call.ended is None]

    def history(self) -> History:
        """The messages for the model. Valid after every prefix of a journal: the result of a call
        without an end says what is known about it, see `unfinished`."""
        # The result of a call that has not ended will change, but a history must not.
        messages = list(self._messages) if self._places else self._messages
        return History(messages, self._answers)

    def results(self, calls: Sequence[ToolCall]) -> list[ToolMessage]:
        """The results of these calls, as the model gets them."""
        return [_result(self.calls[call.id]) for call in calls]

    def unanswered(self) -> bool:
        """Whether the user sent a message after the model's last turn."""
        return bool(self.conversation) and isinstance(self.conversation[-1], UserText)

    def final_words(self) -> str | None:
        """The agent's final message, if it has not been judged yet: the agent died or was stopped
        before `verify` had run. Else None."""
        last = self.conversation[-1] if self.conversation else None
        if not isinstance(last, TurnTaken) or not last.final or last.calls:
            return None
        judged = self.segment_end is not None and self.segment_end.status in _VERDICTS
        return None if judged else self.words_before_pause(1) + last.text

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


def _result(call: CallState) -> ToolMessage:
    ended = call.ended or unfinished(call)
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
