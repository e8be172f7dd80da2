"""A run as it went, one event after the other: what `sandbox-agent logs` prints."""

from __future__ import annotations

from collections.abc import Iterator

from sandbox_agent.journal import events
from sandbox_agent.reports.escape import escape_text
from sandbox_agent.reports.lines import how_it_ended
from sandbox_agent.reports.report import Report
from sandbox_agent.reports.runs.call_text import (
    BAR,
    Masked,
    heading,
    how_it_went,
    short,
    shown,
)
from sandbox_agent.reports.runs.output_file import whole_output
from sandbox_agent.reports.walls import wall_lines


def log_lines(report: Report, event: events.AnyEvent, masked: Masked) -> Iterator[str]:
    """The lines for an event that the report has taken."""
    match event:
        case events.SegmentStarted():
            resumed = "" if event.number == 1 else f", segment {event.number}"
            yield f"run {shown(report.run, masked)}{resumed}: {shown(report.model, masked)}"
            yield from wall_lines(event.plan, masked)
        case events.UserText():
            yield from _said("user", event.text, masked)
        case events.TurnTaken():
            yield from _said(f"turn {event.turn}", event.text, masked)
        case events.Started():
            call = report.calls[event.call]
            yield f"{shown(call.id, masked)} {heading(call, masked)}"
        case events.Ended():
            call = report.calls[event.call]
            for line in output_text(report, event, masked).splitlines():
                yield f"{BAR}{escape_text(line)}"
            yield f"{shown(call.id, masked)} {how_it_went(call, masked)}"
        case events.CancelRequested():
            what = "the run" if event.call is None else shown(event.call, masked)
            yield f"stopping {what} ({shown(event.reason, masked)})"
        case events.Verified():
            passed = "passed" if event.passed else "FAILED"
            yield f"verify: {passed}: {short(event.command, masked)}"
        case events.SegmentEnded():
            how = how_it_ended(shown(event.status, masked), short(event.reason, masked))
            yield f"{how} (exit code {event.exit_code})"


def output_text(report: Report, event: events.Ended, masked: Masked) -> str:
    """All that a call printed and returned, masked. If its file is not there: what the model got,
    and why that is not all."""
    if event.output_file is None:
        return masked(event.content)
    try:
        return masked(whole_output(report.folder, event.output_file).decode("utf-8", "replace"))
    except OSError as error:
        why = f"[{event.output_file} has the rest, and cannot be read: {error.strerror}]"
        return masked(event.content) + f"\n{why}\n"


def _said(who: str, text: str, masked: Masked) -> Iterator[str]:
    lines = masked(text).splitlines()
    if not lines:
        return
    yield f"{who}: {escape_text(lines[0])}"
    for line in lines[1:]:
        yield f"  {escape_text(line)}"
