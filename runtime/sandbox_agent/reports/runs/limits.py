"""Which limits a run has met, as its journal says."""

from __future__ import annotations

import signal
from typing import Any

from sandbox_agent_sandbox.outcome import Outcome

from sandbox_agent.journal.events import LENGTH
from sandbox_agent.journal.status import Status
from sandbox_agent.reports.report import Call, Report, Segment
from sandbox_agent.reports.runs.figures import duration, size

_BY_SIGNAL = {
    signal.SIGXCPU: "its CPU time was used up",
    signal.SIGXFSZ: "a file became longer than limits.file_size",
}
"""How the kernel ends a process that meets one of its limits: setrlimit(2)."""


def limits_met(report: Report) -> list[str]:
    """A line for each limit that was met: the budgets, the limits of calls, those of answers."""
    found = [
        f"turn {turn.number}: a limit of the model cut the answer off"
        for turn in report.turns
        if turn.finish_reason == LENGTH
    ]
    by_number = {segment.number: segment for segment in report.segments}
    for call in report.calls.values():
        found += [f"{call.id}: {what}" for what in _of_call(call, by_number.get(call.segment))]
    for segment in report.segments:
        if segment.end is not None and segment.end.status == Status.BUDGET:
            found.append(f"budget: {segment.end.reason}")
    return found


def _of_call(call: Call, segment: Segment | None) -> list[str]:
    if call.limits:
        return [met.text for met in call.limits]
    found = []  # what follows from the end of a call of an earlier version
    if call.outcome is Outcome.TIMEOUT:
        after = "" if call.timeout is None else f" of {duration(call.timeout)}"
        found.append(f"its time{after} was up")
    for number, what in _BY_SIGNAL.items():
        if call.exit_status in (-number, 128 + number):
            found.append(what)
    kept = None if segment is None else _output_limit(segment.settings)
    if kept is not None and call.output_bytes > kept:
        found.append(f"it printed {size(call.output_bytes)}; {size(kept)} were kept")
    return found


def _output_limit(settings: dict[str, Any]) -> int | None:
    value: Any = settings
    for key in ("sandbox", "limits", "output"):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int) else None
