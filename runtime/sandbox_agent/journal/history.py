"""The messages that a model gets: what was said, and how each call ended.

A history is always valid to send: after an assistant message comes one tool message for each of
its calls, in their order, however the calls ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, overload

import msgspec
from sandbox_agent_ipc.messages import Image
from sandbox_agent_sandbox.outcome import Outcome, StartedState
from sandbox_agent_sandbox.protection.finding import PROTECTED, Finding, FindingKind

from sandbox_agent.journal.events import Ended, ToolCall
from sandbox_agent.journal.stored import Stored


class UserMessage(msgspec.Struct, frozen=True):
    text: str


class AssistantMessage(msgspec.Struct, frozen=True):
    """What a model answered. model: its name. provider_state: as in `ModelTurn`; only a model of
    the same name may get it back. cut: as `TurnTaken.is_cut`."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    model: str = ""
    reasoning: str = ""
    provider_state: dict[str, Any] = {}
    cut: bool = False


class ToolMessage(msgspec.Struct, frozen=True):
    """The one result of one call.

    content: the text for the model, including how the call ended. images: for the model to see.
    """

    call_id: str
    tool: str
    content: str
    outcome: Outcome
    started: StartedState
    images: tuple[Image, ...] = ()


Message = UserMessage | AssistantMessage | ToolMessage


Kept = Message | Stored[Any] | None
"""A message as a state keeps it. Stored: its event is on the disk. None: the result of a call that
has not ended."""


class History(Sequence[Message]):
    """The messages of a conversation up to now. Does not change when the conversation goes on.

    It keeps `messages` itself and its length, because that list only grows. So making a history of
    a long conversation costs no more than making one of a short one. answers: how many of the
    messages are a model's. make: makes the message of an event that is stored; None
    where none is.
    """

    __slots__ = ("_length", "_make", "_messages", "answers")

    def __init__(
        self,
        messages: list[Message],
        answers: int,
        make: Callable[[Stored[Any]], Message] | None = None,
    ) -> None:
        self._messages: list[Any] = messages
        self._length = len(messages)
        self._make = make
        self.answers = answers

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> Message: ...
    @overload
    def __getitem__(self, place: slice) -> list[Message]: ...
    def __getitem__(self, place: int | slice) -> Message | list[Message]:
        if isinstance(place, slice):
            return [self._at(at) for at in range(*place.indices(self._length))]
        # The range checks the index, and counts a negative one from this history's end.
        return self._at(range(self._length)[place])

    def __iter__(self) -> Iterator[Message]:
        if self._make is None:
            return islice(self._messages, self._length)
        return map(self._at, range(self._length))

    def _at(self, place: int) -> Message:
        kept = self._messages[place]
        if self._make is not None and isinstance(kept, Stored):
            return self._make(kept)
        message: Message = kept
        return message

    def starts_with(self, earlier: Sequence[Message]) -> bool:
        """Whether `earlier` is a history of the same conversation, and not longer than this."""
        same = isinstance(earlier, History) and earlier._messages is self._messages
        return same and len(earlier) <= self._length


def answers_in(history: Sequence[Message]) -> int:
    """How often a model has answered. Counts nothing for a `History`, which has the number."""
    if isinstance(history, History):
        return history.answers
    return sum(isinstance(message, AssistantMessage) for message in history)


def starts_with(history: Sequence[Message], earlier: Sequence[Message]) -> bool:
    """Whether `history` starts with `earlier`. Compares nothing if both are of one conversation."""
    if isinstance(history, History) and history.starts_with(earlier):
        return True
    return list(history[: len(earlier)]) == list(earlier)


def tool_text(ended: Ended) -> str:
    """What a model reads about a call that ended: the content, then how the call ended."""
    parts = [ended.content, _ending(ended), *map(_undone, ended.restored)]
    text = "\n".join(part.removesuffix("\n") for part in parts if part)
    return text or "[no output]"


def _undone(found: Finding) -> str:
    if found.kind is not FindingKind.RESTORED:
        return ""
    path, what = _flat(found.path), _flat(found.what)
    if what == PROTECTED:
        return f"[{path} was put back: {what}]"
    return f"[undone in {path}, because it would start programs outside the sandbox: {what}]"


def _ending(ended: Ended) -> str:
    """The line in brackets that says how a call ended; "" if the content says all."""
    if not ended.made:
        how = "not made: the sandbox could not make this call, and its tool did nothing"
        return _line(f"{how}. Repeat it as it is if you need it", ended)
    match ended.outcome:
        case Outcome.OK | Outcome.ERROR:
            status = _exit(ended.exit_status) if ended.exit_status else ""
            text = "; ".join(part for part in (status, _flat(ended.detail)) if part)
            return f"[{text}]" if text else ""
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
    """Join lines into one: how a call ended must be exactly the last line."""
    return " ".join(text.split())


def _exit(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"ended by signal {-status}"
