"""A run as text: what `sandbox-agent show` prints."""

from __future__ import annotations

from collections.abc import Iterator

from sandbox_agent.journal.usage import TokenUsage
from sandbox_agent.reports.findings import finding_lines
from sandbox_agent.reports.lines import how_it_ended
from sandbox_agent.reports.report import Call, Message, Report, Segment, Turn
from sandbox_agent.reports.runs.call_text import (
    Masked,
    call_lines,
    short,
    shown,
    text_lines,
)
from sandbox_agent.reports.runs.figures import count, dollars, duration, moment, size
from sandbox_agent.reports.runs.limits import limits_met
from sandbox_agent.reports.walls import wall_lines


def text_of(report: Report, masked: Masked, *, whole: bool = False) -> Iterator[str]:
    """The lines of a run. masked: replaces secrets in a text. whole: all that the report keeps of
    outputs, not only their last lines."""
    yield from _head(report, masked)
    yield from _limits_and_survivors(report, masked)
    for segment in _segments(report):
        paragraphs = list(_segment(report, segment, masked, whole))
        while paragraphs and not paragraphs[-1]:
            paragraphs.pop()
        yield from ("", *paragraphs)


def _head(report: Report, masked: Masked) -> Iterator[str]:
    yield _field("run", shown(report.id or report.run, masked))
    if report.name:
        yield _field("name", shown(report.name, masked))
    yield _field("status", _status(report, masked))
    yield _field("model", shown(report.model, masked) or "-")
    if report.at:
        yield _field("begun", moment(report.at))
    if report.segments:
        several = len(report.segments)
        parts = "" if several == 1 else f" in {several} segments"
        yield _field("time", duration(report.seconds()) + parts)
    yield _field("used", _used(report))
    if workspace := workspace_of(report):
        yield _field("workspace", shown(workspace, masked))
    if told := report.last.agents_md if report.last else None:
        what = f"{size(told.told)} of {size(told.bytes)}" if told.told < told.bytes else "all of it"
        yield _field("told", f"{shown(told.path, masked)}, {what}")
    yield _field("record", shown(str(report.folder), masked))


def _field(name: str, value: str) -> str:
    return f"{name:<10}{value}"


def _status(report: Report, masked: Masked) -> str:
    end = report.end
    if end is None:
        why = {
            "lost": "its agent died before the end",
            "idle": "no segment of it has begun",
        }.get(report.status, "")
        return how_it_ended(report.status, why)
    how = how_it_ended(shown(end.status, masked), short(end.reason, masked))
    return f"{how} (exit code {end.exit_code})"


def _used(report: Report) -> str:
    calls = sum(not call.is_verify for call in report.calls.values())
    parts = [count(len(report.turns), "turn"), count(calls, "call"), *_tokens(report.usage())]
    return ", ".join(parts)


def _tokens(usage: TokenUsage | None) -> list[str]:
    if usage is None:
        return []
    parts = [count(usage.total, "token")]
    return parts if usage.cost_usd is None else [*parts, dollars(usage.cost_usd)]


def workspace_of(report: Report) -> str:
    last = report.last
    task = last.settings if last else report.opened.task if report.opened else {}
    workspace = task.get("workspace")
    path = workspace.get("path") if isinstance(workspace, dict) else workspace
    return path if isinstance(path, str) else ""


def _limits_and_survivors(report: Report, masked: Masked) -> Iterator[str]:
    for what in limits_met(report):
        yield _field("limit", shown(what, masked))
    for segment in report.segments:
        for survivor in segment.end.survivors if segment.end is not None else ():
            what = f"pid {survivor.pid}: {shown(survivor.command, masked)}"
            yield _field("survivor", f"could not stop {what}")


def _segments(report: Report) -> list[Segment | None]:
    """The segments, in their order. None for what no segment has heard yet."""
    last = report.last.number if report.last else 0
    unheard = any(_heard_in(entry) > last for entry in report.entries)
    return [*report.segments, *([None] if unheard else [])]


def _heard_in(entry: Message | Turn) -> int:
    """The number of the segment that an entry belongs to."""
    between = isinstance(entry, Message) and entry.between
    return entry.segment + 1 if between else entry.segment


def _segment(report: Report, segment: Segment | None, masked: Masked, whole: bool) -> Iterator[str]:
    number = report.segments[-1].number + 1 if report.segments else 1
    if segment is not None:
        number = segment.number
        if len(report.segments) > 1:
            resumed = "" if number == 1 else ", resumed"
            model = "" if number == 1 else f", {shown(segment.model, masked)}"
            yield f"segment {number}{resumed} {moment(segment.at)}{model}"
            yield ""
        said = wall_lines(segment.plan, masked)
        yield from [*said, ""] if said else ()
    later = _timed(report, number, masked, whole)
    for entry in report.entries:
        if _heard_in(entry) != number:
            continue
        if isinstance(entry, Turn):
            while later and later[0][0] < entry.seconds:
                yield from later.pop(0)[1]
            yield from _turn(report, entry, masked, whole)
        else:
            yield from _message(entry, masked)
    for _, lines in later:
        yield from lines
    if segment is not None:
        yield from _end(report, segment, masked)


def _timed(
    report: Report, number: int, masked: Masked, whole: bool
) -> list[tuple[float, list[str]]]:
    """What happens beside the turns of a segment: `verify` commands, calls that no turn has made,
    and orders to stop."""
    found: list[tuple[float, list[str]]] = []
    for call in report.calls.values():
        if call.segment == number and not call.turn:
            at = call.asked if call.asked is not None else call.begun or 0.0
            found.append((at, [*call_lines(call, masked, whole=whole), ""]))
    for segment in report.segments:
        if segment.number == number:
            for seconds, reason in segment.cancels:
                what = f"stopping the run ({shown(reason, masked)}) after {duration(seconds)}"
                found.append((seconds, [what, ""]))
    return sorted(found, key=lambda one: one[0])


def _message(message: Message, masked: Masked) -> Iterator[str]:
    yield "user"
    for line in text_lines(message.text, masked):
        yield f"  {line}"
    yield ""


def _turn(report: Report, turn: Turn, masked: Masked, whole: bool) -> Iterator[str]:
    parts = [f"after {duration(turn.seconds)}", *_tokens(turn.usage)]
    if turn.finish_reason not in ("", "stop", "tool_calls"):
        parts.append(shown(turn.finish_reason, masked))
    yield f"turn {turn.number}: {', '.join(parts)}"
    if whole and turn.reasoning:
        for line in text_lines(turn.reasoning, masked):
            yield f"  (thinks) {line}"
    for line in text_lines(turn.text, masked):
        yield f"  {line}"
    for call in _calls(report, turn):
        for line in call_lines(call, masked, whole=whole):
            yield f"  {line}"
        for seconds, reason in call.cancels:
            yield f"    stopping it ({shown(reason, masked)}) after {duration(seconds)}"
    yield ""


def _calls(report: Report, turn: Turn) -> Iterator[Call]:
    for call in turn.calls:
        if call in report.calls:
            yield report.calls[call]


def _end(report: Report, segment: Segment, masked: Masked) -> Iterator[str]:
    end = segment.end
    if end is not None:
        how = how_it_ended(shown(end.status, masked), short(end.reason, masked))
        yield f"{how} (after {duration(end.seconds)}, exit code {end.exit_code})"
        yield from finding_lines(end.findings, masked)
    elif segment is report.last and report.is_held:
        yield "the run goes on"
    else:
        yield f"no end: its agent (process {segment.pid}) died after {duration(segment.last)}"
