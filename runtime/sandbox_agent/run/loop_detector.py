"""Notices that a model makes no progress: it repeats the same turn with the same results.

A turn repeats the one before it if the model makes exactly the same calls (tools, arguments, order)
and every result is exactly the same: the model then has learned nothing. If a turn makes no call,
its text must be the same. Any difference in a result starts a new row, so a model that polls is
stopped only while what it polls does not change. A message of the user starts a new row as well.

Empty turns (no call, no text) are a row of their own. They do not end the row around them, because
a model makes no progress by saying nothing now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sandbox_agent.journal.events import ToolCall
from sandbox_agent.journal.history import ToolMessage


class _Row:
    """Counts equal values that follow one another."""

    def __init__(self) -> None:
        self._last: Any = None
        self._count = 0

    def add(self, value: Any) -> int:
        """Returns how often the value has come in a row, this time included."""
        self._count = self._count + 1 if value == self._last else 1
        self._last = value
        return self._count


class LoopDetector:
    """Counts equal turns in a row. limit: how many are too many; None for no limit."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._row = _Row()
        self._empty_turns = _Row()

    def add(
        self,
        text: str,
        calls: Sequence[ToolCall],
        results: Sequence[ToolMessage],
        user_messages: int,
    ) -> str | None:
        """Add a turn with the results of its calls. user_messages: how many there are so far.

        Returns why the run must not go on if this turn reaches the limit, else None.
        """
        if self._limit is None:
            return None
        made = [
            (call.tool, call.arguments, result.outcome, result.content, result.images)
            for call, result in zip(calls, results, strict=True)
        ]
        if made or text.strip():
            count, self._empty_turns = self._row.add((user_messages, made or text)), _Row()
        else:
            count = self._empty_turns.add(user_messages)
        if count < self._limit:
            return None
        return f"no progress: {_what(text, calls)} {count} times in a row{_HINT}"


_HINT = (
    "; if that is its task, as in waiting for something, raise budgets.repeats, or set it to null"
)


def _what(text: str, calls: Sequence[ToolCall]) -> str:
    if calls:
        names = ", ".join(dict.fromkeys(call.tool for call in calls))
        return f"the model asked for the same calls ({names}) and got the same results"
    if text.strip():
        return "the model called nothing and said the same"
    return "the model called nothing and said nothing"
