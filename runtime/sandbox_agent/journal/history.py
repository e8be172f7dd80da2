"""What a model is told: the messages of a conversation, and how a call's end reads.

A history is always valid to send: an assistant message is followed by one tool message for each
of its calls, in their order, however they ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, overload

import msgspec
from sandbox_agent_ipc.messages import Image
from sandbox_agent_sandbox.outcome import Outcome, StartedState

from sandbox_agent.journal.events import Ended


class Call(msgspec.Struct, frozen=True):
    """A call that the model asked for."""

    id: str
    tool: str
    arguments: dict[str, Any] | str
    provider_state: dict[str, Any] = {}


class UserMessage(msgspec.Struct, frozen=True):
    text: str


class AssistantMessage(msgspec.Struct, frozen=True):
    """What a model answered. model: its name. kept: as in `ModelTurn`, for that model alone. cut:
    as `TurnTaken.is_cut`."""

    text: str
    calls: tuple[Call, ...] = ()
    model: str = ""
    reasoning: str = ""
    provider_state: dict[str, Any] = {}
    cut: bool = False


class ToolMessage(msgspec.Struct, frozen=True):
    """The one result of one call.

    content: all that the model reads, the end of the call included. images: what it looks at.
    """

    call_id: str
    tool: str
    content: str
    outcome: Outcome
    started: StartedState
    images: tuple[Image, ...] = ()


Message = UserMessage | AssistantMessage | ToolMessage


class History(Sequence[Message]):
    """The messages of a conversation up to now. It stays as it is while the conversation goes on,
    and to make one costs the same however long that is: `messages` only ever grows.

    answers: how many of them are a model's.
    """

    __slots__ = ("_length", "_messages", "answers")

    def __init__(self, messages: list[Message], answers: int) -> None:
        self._messages = messages
        self._length = len(messages)
        self.answers = answers

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> Message: ...
    @overload
    def __getitem__(self, place: slice) -> list[Message]: ...
    def __getitem__(self, place: int | slice) -> Message | list[Message]:
        if isinstance(place, slice):
            return [self._messages[at] for at in range(*place.indices(self._length))]
        # What a range refuses or counts from its end, a sequence of that length does.
        return self._messages[range(self._length)[place]]

    def __iter__(self) -> Iterator[Message]:
        return islice(self._messages, self._length)

    def goes_on(self, earlier: Sequence[Message]) -> bool:
        """Whether `earlier` is how this conversation began."""
        same = isinstance(earlier, History) and earlier._messages is self._messages
        return same and len(earlier) <= self._length


def answers_in(history: Sequence[Message]) -> int:
    """How often a model has answered. For a conversation's own history no work that grows."""
    if isinstance(history, History):
        return history.answers
    return sum(isinstance(message, AssistantMessage) for message in history)


def goes_on(earlier: Sequence[Message], history: Sequence[Message]) -> bool:
    """Whether `earlier` is how `history` began; of a conversation that grows, known at once."""
    if isinstance(history, History) and history.goes_on(earlier):
        return True
    return list(history[: len(earlier)]) == list(earlier)


def tool_text(ended: Ended) -> str:
    """What a model reads of a call that ended: what it said, then how it ended."""
    parts = [ended.content, _ending(ended)]
    text = "\n".join(part.removesuffix("\n") for part in parts if part)
    return text or "[no output]"


def _ending(ended: Ended) -> str:
    """The line in brackets that says how a call ended; "" when its content says all."""
    match ended.outcome:
        case Outcome.OK | Outcome.ERROR:
            if ended.exit_status:
                return f"[{_exit(ended.exit_status)}]"
            return f"[{_flat(ended.detail)}]" if ended.detail else ""
        case Outcome.CANCELLED:
            how = "cancelled: it was told to stop, and stopped"
        case Outcome.KILLED:
            how = "cancelled: it did not stop when it was told to, and was killed"
        case Outcome.TIMEOUT:
            how = "timed out: its time was up, and it was stopped"
        case Outcome.CRASHED:
            how = "crashed: it ended without a result"
            if ended.exit_status is not None:
                how += f", {_exit(ended.exit_status)}"
        case Outcome.SKIPPED:
            return _line("skipped: it was never started, and did nothing", ended)
        case Outcome.DENIED:
            return _line("denied: approval was refused; it was never started", ended)
        case Outcome.UNKNOWN:
            how = "unknown how it ended: the agent program itself died meanwhile"
    return _line(f"{how}. {_extent(ended)}", ended)


def _extent(ended: Ended) -> str:
    match ended.started:
        case StartedState.NO:
            return "It had not been started, and did nothing"
        case StartedState.MAYBE:
            return "It may have been started, and may have changed something: look before repeating"
        case StartedState.YES:
            return (
                "It had been started, and what it did may be partial: any output above is "
                "incomplete, and changes that it made remain"
            )


def _line(text: str, ended: Ended) -> str:
    alive = ""
    if ended.survivors:
        pids = ", ".join(str(survivor.pid) for survivor in ended.survivors)
        alive = f". It could not be stopped: processes {pids} still run"
    detail = f" ({_flat(ended.detail)})" if ended.detail else ""
    return f"[{text}{alive}{detail}]"


def _flat(text: str) -> str:
    """Text of several lines as one: the end of a call is the last line of what is said of it."""
    return " ".join(text.split())


def _exit(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"ended by signal {-status}"
