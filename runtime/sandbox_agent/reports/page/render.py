"""Writes the page of a run, piece by piece: neither the page nor the conversation is in memory as a
whole."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox_agent.reports.findings import finding_lines
from sandbox_agent.reports.page.numbers import dollars, duration, when
from sandbox_agent.reports.page.sizes import Plan, plan
from sandbox_agent.reports.page.spans import times_of
from sandbox_agent.reports.page.texts import Shown, Texts, as_json
from sandbox_agent.reports.page.timeline import (
    BAR,
    LEFT,
    PANEL,
    RIGHT,
    SHAPES,
    TOP,
    WIDTH,
    Timeline,
    draw,
)
from sandbox_agent.reports.page.view import SIGNS, Fact, View, survivors
from sandbox_agent.reports.report import Report, Turn
from sandbox_agent.reports.walls import wall_lines

if TYPE_CHECKING:
    from sandbox_agent.reports.mask import Mask

POLICY = (
    "default-src 'none'; img-src data:; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'"
)
"""The page's Content-Security-Policy (CSP Level 3): no script, nothing from outside, and of styles
only the one with this hash."""

_DRAWN = 6
"""Segments that have a drawing, the last ones."""
_ROWS = 200
"""Rows of the table of costs."""
_PIECE = 64
"""Pieces of the template that are joined, so that a file is written in few steps."""


class Row(NamedTuple):
    """A turn in the table of costs."""

    turn: int
    input: str
    cached: str
    output: str
    cost: str
    model: str


def html_of(report: Report, mask: Mask) -> Iterator[str]:
    """The page of a run, in pieces.

    It stays under 3 MB. What had to be left out for that is said in its place. It needs no script
    and loads nothing: its Content-Security-Policy forbids both.
    """
    import jinja2

    css = _resource("page.css")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.from_string(_resource("page.html.jinja"))
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    stream = template.stream(css=css, policy=POLICY.format(digest), **_context(report, mask))
    stream.enable_buffering(_PIECE)
    return iter(stream)


def _resource(name: str) -> str:
    return (resources.files(__package__) / name).read_text("utf-8")


def _context(report: Report, mask: Mask) -> dict[str, Any]:
    """All that the template needs. The conversation is a generator."""
    times = times_of(report)
    seconds = {
        span.turn: span.end - span.start
        for one in times
        for span in one.model()
        if span.turn is not None
    }
    drawn = [one for one in times[-_DRAWN:] if one.turns or one.calls or one.segment.last]
    anchors = {call_id: f"c{index}" for index, call_id in enumerate(report.calls)}
    brief = Texts(mask, 400)
    first = [draw(one, brief, anchors, len(drawn)) for one in drawn]
    rows = _rows(report, seconds)
    chosen = plan(report, sum(one.weight for one in first), len(rows))
    anchors = {call_id: anchors[call_id] for call_id in report.calls if call_id in chosen.calls}
    texts = Texts(mask, chosen.limit)
    view = View(report, texts, chosen, anchors, seconds)
    return {
        "title": texts.line(report.name or report.run, 120),
        "status": report.status,
        "sign": SIGNS[_status_kind(report.status)],
        "reason": _reason(report, texts),
        "survivors": survivors(report.end.survivors if report.end else (), texts),
        "findings": finding_lines(
            report.end.findings if report.end else (), lambda text: texts.line(text, 200)
        ),
        "walls": [
            texts.line(line, 400)
            for line in (() if report.last is None else wall_lines(report.last.plan))
        ],
        "facts": _summary(report, texts),
        "failed": _failed(report, chosen, anchors, texts),
        "timelines": _linked(first, anchors),
        "undrawn": len(times) - len(drawn),
        "items": view.items(),
        "rows": rows,
        "turns": len(report.turns),
        "settings": _settings(report, texts),
        "limit": texts.limit,
        "size": {
            "width": WIDTH,
            "left": LEFT,
            "right": WIDTH - RIGHT,
            "top": TOP,
            "bar": BAR,
            "panel": PANEL,
        },
        "shapes": SHAPES,
        "status_kind": _status_kind,
    }


def _linked(timelines: list[Timeline], anchors: dict[str, str]) -> list[Timeline]:
    """The drawings, with links only to calls that the page has."""
    there = set(anchors.values())
    for one in timelines:
        one.bars = [bar if bar.anchor in there else bar._replace(anchor="") for bar in one.bars]
    return timelines


def _status_kind(status: str) -> str:
    """The class of a run's status, for its colour."""
    kinds = {"done": "ok", "running": "flight", "idle": "flight", "paused": "skipped"}
    kinds |= {"interrupted": "stopped", "budget": "stopped"}
    return kinds.get(status, "bad")


def _reason(report: Report, texts: Texts) -> str:
    if report.status == "lost":
        return "the agent process died; the calls that were in flight have no end"
    if report.status == "running":
        return "the run was going on when this page was made"
    reason = report.end.reason if report.end else ""
    return "" if reason == report.status else texts.line(reason, 2000)


def _summary(report: Report, texts: Texts) -> list[Fact]:
    calls = [call for call in report.calls.values() if not call.is_verify]
    verify = report.verify_calls()
    failed = sum(call.failed for call in calls)
    usage = report.usage()
    facts = [
        Fact("run", texts.line(report.run, 120)),
        Fact("model", texts.line(report.model, 120)),
        Fact("begun", texts.line(when(report.at), 40)),
        Fact("took", duration(report.seconds())),
        Fact("turns", f"{len(report.turns):,}"),
        Fact("calls", f"{len(calls):,}" + (f", {failed:,} without success" if failed else "")),
    ]
    if len(report.segments) > 1:
        facts.append(Fact("segments", f"{len(report.segments):,}"))
    if verify:
        passed = sum(call.passed is True for call in verify)
        facts.append(Fact("verify", f"{passed} of {len(verify)} passed"))
    if usage is not None:
        facts.append(Fact("tokens", f"{usage.input:,} in, {usage.output:,} out"))
        if usage.cost_usd is not None:
            facts.append(Fact("cost", dollars(usage.cost_usd)))
    if report.end is not None:
        facts.append(Fact("exit code", str(report.end.exit_code)))
    facts.append(Fact("record", texts.line(str(report.folder), 400)))
    return [fact for fact in facts if fact.value]


def _failed(
    report: Report, chosen: Plan, anchors: dict[str, str], texts: Texts
) -> list[tuple[str, str]]:
    """(anchor, label) of calls without success, the last twenty."""
    found = [call for call in report.calls.values() if call.failed and chosen.shows(call)]
    return [(anchors[call.id], texts.line(call.id, 60)) for call in found[-20:]]


def _rows(report: Report, seconds: dict[int, float]) -> list[Row]:
    """The table of costs. Of many turns, those with the most tokens."""
    turns = [turn for turn in report.turns if turn.usage is not None]
    if len(turns) > _ROWS:
        dearest = sorted(turns, key=_price, reverse=True)[:_ROWS]
        turns = sorted(dearest, key=lambda turn: turn.number)
    return [_row(turn, seconds.get(turn.number)) for turn in turns]


def _price(turn: Turn) -> tuple[float, int]:
    return (turn.usage.cost_usd or 0.0, turn.usage.total) if turn.usage else (0.0, 0)


def _row(turn: Turn, seconds: float | None) -> Row:
    usage = turn.usage
    assert usage is not None
    return Row(
        turn.number,
        f"{usage.input:,}",
        f"{usage.cached:,}",
        f"{usage.output:,}",
        dollars(usage.cost_usd),
        duration(seconds),
    )


def _settings(report: Report, texts: Texts) -> Shown:
    last = report.last
    if last is None:
        return Shown("")
    settings = {"model": last.model, **last.settings, "tools offered": list(last.tools)}
    return texts.block(as_json(settings), 8192)
