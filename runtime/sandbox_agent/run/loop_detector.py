"""Notices a model that goes round in circles.

A turn repeats the one before it when the model asks for exactly the same calls (tools, arguments,
order) and every result reads exactly the same, so that the model knows nothing which it did not
know before. Of turns that call nothing the text must be the same. Those that say nothing either are
a row of their own, and do not end the one around them: no model gets on by saying nothing now and
then. What the user says meanwhile is news, and ends a row. So does any difference in a result:
polling is seen for what it is only while what it polls stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sandbox_agent.journal.events import Asked
from sandbox_agent.journal.history import ToolMessage


class _Row:
    """Counts how often in a row the same is put into it."""

    def __init__(self) -> None:
        self._last: Any = None
        self._count = 0

    def put(self, what: Any) -> int:
        self._count = self._count + 1 if what == self._last else 1
        self._last = what
        return self._count


class LoopDetector:
    """Counts turns in a row that are the same. limit: None for never too many."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._row = _Row()
        self._silence = _Row()

    def see(
        self, text: str, calls: Sequence[Asked], results: Sequence[ToolMessage], heard: int
    ) -> str | None:
        """Take in a turn with the results of its calls. heard: the user's messages so far.

        Returns why the run is not to go on, when this was one repetition too many.
        """
        if self._limit is None:
            return None
        made = [
            (call.tool, call.arguments, result.outcome, result.content, result.images)
            for call, result in zip(calls, results, strict=True)
        ]
        if made or text.strip():
            count, self._silence = self._row.put((heard, made or text)), _Row()
        else:
            count = self._silence.put(heard)
        if count < self._limit:
            return None
        return f"no progress: {_what(text, calls)} {count} times in a row{_HINT}"


_HINT = (
    "; if that is its task, as in waiting for something, raise budgets.repeats, or set it to null"
)


def _what(text: str, calls: Sequence[Asked]) -> str:
    if calls:
        names = ", ".join(dict.fromkeys(call.tool for call in calls))
        return f"the model asked for the same calls ({names}) and got the same results"
    if text.strip():
        return "the model called nothing and said the same"
    return "the model called nothing and said nothing"
