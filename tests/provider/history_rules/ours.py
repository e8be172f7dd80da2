"""Our own promise of a history: whatever happened, every call has one result, in its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sandbox_agent.journal.events import ToolCall
from sandbox_agent.journal.history import AssistantMessage, Message, ToolMessage, UserMessage
from sandbox_agent_sandbox.outcome import Outcome, StartedState

ID = re.compile(r"[a-zA-Z0-9_-]{1,40}")
"""What OpenAI and Anthropic both take."""


def problems_of_history(messages: Sequence[Message]) -> list[str]:
    """Everything for which a provider would refuse this history, or that is plainly a lie."""
    return [*_order(messages), *_each(messages)]


def _order(messages: Sequence[Message]) -> Iterator[str]:
    if messages and not isinstance(messages[0], UserMessage):
        yield "message 0: the user does not begin"
    waiting: list[ToolCall] = []
    known: set[str] = set()
    for number, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            due = waiting.pop(0) if waiting else None
            if due is None or (due.id, due.tool) != (message.call_id, message.tool):
                wanted = "none" if due is None else f"{due.id} ({due.tool})"
                yield (
                    f"message {number}: the result of {message.call_id} ({message.tool}) where "
                    f"{wanted} is due"
                )
            continue
        if waiting:
            yield f"message {number}: no result of {', '.join(call.id for call in waiting)}"
        waiting = list(message.calls) if isinstance(message, AssistantMessage) else []
        for call in waiting:
            if call.id in known:
                yield f"message {number}: the id {call.id} is used again"
            known.add(call.id)
    if waiting:
        yield f"at the end: no result of {', '.join(call.id for call in waiting)}"


def _each(messages: Sequence[Message]) -> Iterator[str]:
    for number, message in enumerate(messages):
        if isinstance(message, AssistantMessage):
            for call in message.calls:
                if not ID.fullmatch(call.id):
                    yield f"message {number}: the id {call.id!r} is none that providers take"
                if not call.tool:
                    yield f"message {number}: {call.id} calls a tool without a name"
        elif isinstance(message, ToolMessage):
            if not message.content.strip():
                yield f"message {number}: the result of {message.call_id} is empty"
            lies = {Outcome.SKIPPED: StartedState.NO, Outcome.OK: StartedState.YES}
            if lies.get(message.outcome, message.started) != message.started:
                yield (
                    f"message {number}: {message.call_id} is said to be {message.outcome}, and "
                    f"started: {message.started}"
                )
