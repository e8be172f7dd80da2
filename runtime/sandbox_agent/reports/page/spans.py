"""When the model was asked, and when calls ran: the times of a segment, from its events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sandbox_agent.reports.report import Call, Report, Segment, Turn


class Span(NamedTuple):
    """Seconds after the beginning of the segment. turn: that the model answered with; None if the
    segment ended before an answer came."""

    start: float
    end: float
    turn: int | None


class Times(NamedTuple):
    """A segment, its turns and its calls, those of `verify` too."""

    segment: Segment
    turns: list[Turn]
    calls: list[Call]

    def model(self) -> list[Span]:
        """The journal tells when an answer came. The model was asked when the calls before it had
        ended; the first time when the segment began, so that span includes the start of the
        sandbox."""
        spans: list[Span] = []
        ends = _ends_by_turn(self.calls)
        asked = 0.0
        for turn in self.turns:
            spans.append(Span(min(asked, turn.seconds), turn.seconds, turn.number))
            asked = max(turn.seconds, ends.get(turn.number, 0.0))
        last = self.turns[-1] if self.turns else None
        in_flight = any(call.ended is None for call in self.calls if not call.is_verify)
        if (last is None or not last.final) and not in_flight and asked < self.segment.last:
            spans.append(Span(asked, self.segment.last, None))
        return spans


def interval(call: Call, until: float) -> tuple[float, float, float]:
    """(asked, begun, ended) of a call. What did not happen, happened at the next of them, or at
    `until`."""
    ended = call.ended if call.ended is not None else until
    begun = call.begun if call.begun is not None else call.asked
    begun = min(begun if begun is not None else ended, ended)
    asked = min(call.asked if call.asked is not None else begun, begun)
    return asked, begun, ended


def _ends_by_turn(calls: Iterable[Call]) -> dict[int, float]:
    ends: dict[int, float] = {}
    for call in calls:
        if call.ended is not None and call.turn:
            ends[call.turn] = max(ends.get(call.turn, 0.0), call.ended)
    return ends


def times_of(report: Report) -> list[Times]:
    """The times of every segment."""
    found = {segment.number: Times(segment, [], []) for segment in report.segments}
    for entry in report.entries:
        if isinstance(entry, Turn) and entry.segment in found:
            found[entry.segment].turns.append(entry)
    for call in report.calls.values():
        if call.segment in found:
            found[call.segment].calls.append(call)
    return list(found.values())
