"""Events of a run as the live view hears them, made by hand."""

from __future__ import annotations

from typing import Any

from sandbox_agent.journal import events
from sandbox_agent.journal.usage import TokenUsage
from sandbox_agent_sandbox.outcome import Outcome, StartedState

BEGIN = 1000.0
"""CLOCK_MONOTONIC at the beginning of the run."""

_SETTINGS: dict[str, Any] = {
    "budgets": {"turns": 40, "tokens": 200_000, "cost_usd": 2.0, "time": 1200.0},
    "interrupt": {"grace": 2.0, "term": 1.0},
    "verify": ["make test", "make lint"],
}


def event(kind: Any, seconds: float, **fields: Any) -> Any:
    return kind(at="2026-11-28T00:00:00.000Z", monotonic=BEGIN + seconds, **fields)


def segment(**settings: Any) -> events.SegmentStarted:
    recorded = events.RecordedSettings("scripted:s.yaml", {}, {**_SETTINGS, **settings})
    return event(  # type: ignore[no-any-return]
        events.SegmentStarted, 0, number=1, pid=1, settings=recorded, tools=(), plan=None
    )


def turn(
    number: int, seconds: float, *commands: str, text: str = "", final: bool = False, **fields: Any
) -> events.TurnTaken:
    """A turn with a shell call for each command."""
    calls = tuple(
        events.ToolCall(f"call_{number}_{place}", "shell", {"command": command})
        for place, command in enumerate(commands, 1)
    )
    return event(  # type: ignore[no-any-return]
        events.TurnTaken, seconds, turn=number, text=text, final=final, calls=calls, **fields
    )


def usage(total: int, cost: float | None = None) -> TokenUsage:
    return TokenUsage(input=total, cost_usd=cost)


def begun(call: str, seconds: float, **fields: Any) -> list[events.AnyEvent]:
    """A call is sent, and its code runs."""
    fields = {"tool": "shell", **fields}
    return [
        event(events.Dispatching, seconds, call=call, **fields),
        event(events.Started, seconds, call=call),
    ]


def ended(call: str, seconds: float, outcome: Outcome = Outcome.OK, **fields: Any) -> events.Ended:
    return event(  # type: ignore[no-any-return]
        events.Ended, seconds, call=call, outcome=outcome, started=StartedState.YES, **fields
    )
