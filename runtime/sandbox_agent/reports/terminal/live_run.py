"""What is going on in a run just now: the fold of all reports, without what is over, and what the
journal does not have: pieces of an answer and the output of calls that are going."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox_agent_sandbox.outcome import Outcome

from sandbox_agent.journal import events
from sandbox_agent.journal.usage import TokenUsage
from sandbox_agent.models import DeltaKind, ModelDelta
from sandbox_agent.reports.report import Call, Report, Segment
from sandbox_agent.reports.terminal.tail import OutputTail

_SAID = 4096
"""Characters of an answer that are kept while it comes."""


class LiveRun:
    """tails: the output of calls, by id. Filled by another thread, so it may know a call first.
    interrupts: when the second interrupt came; None if none has. stopped: when the run was stopped,
    and why."""

    def __init__(self, tails: dict[str, OutputTail]) -> None:
        self.tails = tails
        self.turn = 0
        self.usage = TokenUsage()
        self.is_counted = False
        self.said = self.thought = self.asked = ""
        self.waiting_since: float | None = None
        self.stopped: tuple[float, str] | None = None
        self.hurried: float | None = None
        self.verified = 0
        self._report = Report("", Path())
        self._turns_before = 0

    # --- what has happened -------------------------------------------------------------------

    def apply(self, event: events.AnyEvent) -> Call | None:
        """The next event. Returns the call that ended with it. What is over is forgotten."""
        report = self._report
        report.apply(event)
        report.entries.clear()
        match event:
            case events.SegmentStarted():
                del report.segments[:-1]
                self.waiting_since = event.monotonic
            case events.TurnTaken():
                self._take(event)
            case events.Ended():
                self.tails.pop(event.call, None)
                self.waiting_since = event.monotonic
                return report.calls.pop(event.call)
            case events.CancelRequested(call=None):
                self.stopped = event.monotonic, event.reason
            case events.Verified():
                report.calls.pop(event.call, None)
                self.verified += 1
        return None

    def _take(self, event: events.TurnTaken) -> None:
        self.turn, self.waiting_since = event.turn, event.monotonic
        self.said = self.thought = self.asked = ""
        if event.usage is not None:
            self.usage, self.is_counted = self.usage.plus(event.usage), True

    def hear(self, delta: ModelDelta) -> None:
        """A piece of an answer that is coming."""
        match delta.kind:
            case DeltaKind.TEXT:
                self.said = (self.said + delta.text[-_SAID:])[-_SAID:]
            case DeltaKind.REASONING:
                self.thought = (self.thought + delta.text[-_SAID:])[-_SAID:]
            case DeltaKind.CALL:
                self.asked = (self.asked + delta.text[-_SAID:])[-_SAID:]
            case DeltaKind.RESTART:
                self.said = self.thought = self.asked = ""

    # --- what there is now -------------------------------------------------------------------

    @property
    def report(self) -> Report:
        """Of what is going on. It knows the settings of the run."""
        return self._report

    @property
    def segment(self) -> Segment | None:
        return self._report.last

    @property
    def is_over(self) -> bool:
        return self._report.end is not None

    @property
    def going(self) -> list[Call]:
        """Calls whose code runs."""
        return [call for call in self._report.calls.values() if call.begun is not None]

    @property
    def waiting(self) -> int:
        """Calls that have not begun."""
        return len(self._report.calls) - len(self.going)

    @property
    def verify_commands(self) -> int:
        found = self._settings.get("verify")
        return len(found) if isinstance(found, list) else 0

    def elapsed(self, call: Call, now: float) -> float:
        """Seconds since the call began. now: CLOCK_MONOTONIC."""
        segment = self.segment
        if segment is None or call.begun is None:
            return 0.0
        return max(0.0, now - segment.monotonic - call.begun)

    def seconds(self, now: float) -> float:
        """Since the run began."""
        return max(0.0, now - self.segment.monotonic) if self.segment else 0.0

    def budget(self, name: str) -> float | None:
        """A limit of the run; None if it has none."""
        return _number(self._settings.get("budgets"), name)

    def period(self, name: str) -> float | None:
        """`grace` or `term`, in seconds; None before the run has begun."""
        return _number(self._settings.get("interrupt"), name)

    @property
    def _settings(self) -> Mapping[str, Any]:
        return self.segment.settings if self.segment else {}


def _number(mapping: object, name: str) -> float | None:
    value = mapping.get(name) if isinstance(mapping, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def seconds_of(call: Call) -> float | None:
    """How long a call that has ended ran."""
    if call.begun is None or call.ended is None:
        return None
    return max(0.0, call.ended - call.begun)


def is_good(call: Call) -> bool:
    return call.outcome is Outcome.OK
