"""What a model is told: the messages of a conversation, and how a call's end reads.

A history is always valid to send: an assistant message is followed by one tool message for each
of its calls, in their order, however they ended.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sandbox_agent_sandbox.outcome import Outcome, StartedState

from sandbox_agent.events import Ended


class Call(msgspec.Struct, frozen=True):
    """A call that the model asked for."""

    id: str
    tool: str
    arguments: dict[str, Any] | str
    kept: dict[str, Any] = {}


class UserMessage(msgspec.Struct, frozen=True):
    text: str


class AssistantMessage(msgspec.Struct, frozen=True):
    """What a model answered. model: its name. kept: as in `ModelTurn`, for that model alone."""

    text: str
    calls: tuple[Call, ...] = ()
    model: str = ""
    reasoning: str = ""
    kept: dict[str, Any] = {}


class ToolMessage(msgspec.Struct, frozen=True):
    """The one result of one call.

    content: all that the model reads, the end of the call included.
    """

    call_id: str
    tool: str
    content: str
    outcome: Outcome
    started: StartedState


Message = UserMessage | AssistantMessage | ToolMessage


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
            return f"[{ended.detail}]" if ended.detail else ""
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
    detail = f" ({ended.detail})" if ended.detail else ""
    return f"[{text}{alive}{detail}]"


def _exit(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"ended by signal {-status}"
