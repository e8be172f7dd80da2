"""What follows from a journal's events. Everything that is known of a run is a fold over them.

A live conversation keeps one of these too and applies each event as it writes it, so what is in
memory and what a later process reads from the file cannot differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from sandbox_agent_sandbox.outcome import Outcome, StartedState

from sandbox_agent.errors import JournalError
from sandbox_agent.events import (
    AnyEvent,
    Asked,
    CancelRequested,
    Dispatching,
    Ended,
    JournalOpened,
    SegmentEnded,
    SegmentStarted,
    Settings,
    Stamp,
    Started,
    TurnTaken,
    UserText,
    Verified,
)
from sandbox_agent.history import (
    AssistantMessage,
    Call,
    Message,
    ToolMessage,
    UserMessage,
    tool_text,
)
from sandbox_agent.status import Status


class Phase(Enum):
    """How far a call has come, as the journal shows it. Only ever moves downwards."""

    ASKED = 0
    DISPATCHING = 1
    STARTED = 2
    ENDED = 3


@dataclass(frozen=True)
class CallState:
    """One call. verify: it is a `verify` command, which no model asked for."""

    id: str
    tool: str
    phase: Phase
    verify: bool = False
    ended: Ended | None = None


@dataclass
class Fold:
    """The state of a run. `apply` events in their order.

    conversation: user messages and model turns, in order. turns: how many were taken. models: by
    whom, by turn. calls: every call by id, in the order in which they were asked for. verified:
    what the last segment's `verify` commands said. segment: the last that began; segment_end: its
    end, None while it is going or when the agent died in it.
    """

    opened: JournalOpened | None = None
    conversation: list[UserText | TurnTaken] = field(default_factory=list)
    turns: int = 0
    models: dict[int, str] = field(default_factory=dict)
    calls: dict[str, CallState] = field(default_factory=dict)
    verified: list[Verified] = field(default_factory=list)
    segment: SegmentStarted | None = None
    segment_end: SegmentEnded | None = None

    def apply(self, event: AnyEvent) -> None:
        """Take one event in. Raises JournalError for one that cannot follow what went before."""
        match event:
            case JournalOpened():
                self.opened = event
            case SegmentStarted():
                self.segment, self.segment_end = event, None
                self.verified.clear()
            case UserText():
                self.conversation.append(event)
            case TurnTaken():
                self.conversation.append(event)
                self.turns = event.turn
                self.models[event.turn] = self.segment.model if self.segment is not None else ""
                for call in event.calls:
                    self._ask(call)
            case Dispatching():
                if event.command is not None:
                    self._ask(Asked(event.call, event.tool, {}), verify=True)
                self._move(event.call, Phase.DISPATCHING)
            case Started():
                self._move(event.call, Phase.STARTED)
            case Ended():
                self._move(event.call, Phase.ENDED)
                self.calls[event.call] = replace(self.calls[event.call], ended=event)
            case Verified():
                self.verified.append(event)
            case SegmentEnded():
                self.segment_end = event
            case CancelRequested():
                pass

    def _ask(self, call: Asked, *, verify: bool = False) -> None:
        if call.id in self.calls:
            raise JournalError(f"call {call.id} is asked for twice; the journal is damaged")
        self.calls[call.id] = CallState(call.id, call.tool, Phase.ASKED, verify)

    def _move(self, call_id: str, to: Phase) -> None:
        call = self.calls.get(call_id)
        if call is None:
            raise JournalError(f"call {call_id} was never asked for; the journal is damaged")
        if to.value <= call.phase.value:
            raise JournalError(
                f"call {call_id} cannot go from {call.phase.name.lower()} to {to.name.lower()}; "
                f"the journal is damaged"
            )
        self.calls[call_id] = replace(call, phase=to)

    def open_calls(self) -> list[CallState]:
        """Calls without an end: in flight, or, of a run whose agent died, in flight then."""
        return [call for call in self.calls.values() if call.ended is None]

    def history(self) -> list[Message]:
        """The conversation as a model is told it. Valid after every prefix of a journal: a call
        without an end reads as the truth about it, see `unfinished`."""
        messages: list[Message] = []
        for item in self.conversation:
            if isinstance(item, UserText):
                messages.append(UserMessage(item.text))
                continue
            calls = tuple(Call(c.id, c.tool, c.arguments, c.kept) for c in item.calls)
            model = self.models[item.turn]
            messages.append(AssistantMessage(item.text, calls, model, item.reasoning, item.kept))
            messages.extend(self._result(call.id) for call in item.calls)
        return messages

    def _result(self, call_id: str) -> ToolMessage:
        call = self.calls[call_id]
        ended = call.ended or unfinished(call)
        return ToolMessage(call.id, call.tool, tool_text(ended), ended.outcome, ended.started)

    def unanswered(self) -> bool:
        """Whether the user said something after the model's last turn."""
        return bool(self.conversation) and isinstance(self.conversation[-1], UserText)

    def final_words(self) -> str | None:
        """What the agent said when it said that it is done, if that has not been judged yet: the
        agent died or was stopped before `verify` had its say. Else None."""
        last = self.conversation[-1] if self.conversation else None
        if not isinstance(last, TurnTaken) or not last.final or last.calls:
            return None
        judged = self.segment_end is not None and self.segment_end.status in _VERDICTS
        return None if judged else last.text

    def settings(self) -> Settings | None:
        """What the last segment was made with, or the first, if it did not come to begin. None when
        the journal ends before it says so."""
        if self.segment is None:
            return self.opened.settings if self.opened is not None else None
        names = Settings.__struct_fields__
        return Settings(**{name: getattr(self.segment, name) for name in names})

    def status(self) -> Status:
        """How the last segment ended; ERROR when the agent died in it."""
        if self.segment_end is not None:
            return Status(self.segment_end.status)
        return Status.IDLE if self.segment is None else Status.ERROR


_VERDICTS = (Status.DONE, Status.FAILED)


def unfinished(call: CallState) -> Ended:
    """The end of a call whose end nobody saw, as far as the journal tells."""
    outcome, started = {
        Phase.ASKED: (Outcome.SKIPPED, StartedState.NO),
        Phase.DISPATCHING: (Outcome.UNKNOWN, StartedState.MAYBE),
        Phase.STARTED: (Outcome.UNKNOWN, StartedState.YES),
    }[call.phase]
    now = Stamp.now()
    return Ended(at=now.at, t=now.t, call=call.id, outcome=outcome, started=started)


def fold(events: tuple[AnyEvent, ...]) -> Fold:
    """The state after these events."""
    state = Fold()
    for event in events:
        state.apply(event)
    return state
