"""The drawing of a segment: what the model and the calls did at which time, how calls were
stopped, and the budgets. Here is the geometry; the template makes SVG of it.

A drawing stays small, whatever a run does: many bars and marks become one path of each kind, in
which what falls on the same pixel is drawn once.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import NamedTuple

from sandbox_agent_sandbox.outcome import Outcome

from sandbox_agent.reports.page.budgets import Budgets, Curve, budgets_of
from sandbox_agent.reports.page.numbers import count, duration
from sandbox_agent.reports.page.spans import Times, interval
from sandbox_agent.reports.page.texts import Texts
from sandbox_agent.reports.report import Call

WIDTH = 960
LEFT = 64
RIGHT = 16
TOP = 22
LANE = 16
BAR = 12
LANES = 8
"""Calls at the same time that get a lane of their own."""
PANEL = 72
"""Height of the budgets."""
SINGLE = 300
"""Bars that are drawn one by one, each with its title and a link to its call."""

KINDS = {
    None: "flight",
    Outcome.OK: "ok",
    Outcome.ERROR: "bad",
    Outcome.CRASHED: "bad",
    Outcome.DENIED: "bad",
    Outcome.UNKNOWN: "bad",
    Outcome.CANCELLED: "stopped",
    Outcome.KILLED: "stopped",
    Outcome.TIMEOUT: "stopped",
    Outcome.SKIPPED: "skipped",
}
"""The class of a call's outcome, for its colour."""

SHAPES = {
    "flag": "m-1-7h2l8 4l-8 4v6h-2z",
    "term": "m0-6l6 6l-6 6l-6-6z",
    "kill": "m-6-4l2-2l4 4l4-4l2 2l-4 4l4 4l-2 2l-4-4l-4 4l-2-2l4-4z",
}
"""The mark of each rung, from its middle."""


class Bar(NamedTuple):
    x: float
    y: float
    width: float
    kind: str
    title: str = ""
    anchor: str = ""


class Mark(NamedTuple):
    x: float
    y: float
    kind: str
    title: str = ""


class Tick(NamedTuple):
    """A label on the axis, or a line across all lanes."""

    x: float
    label: str
    kind: str = "tick"


@dataclass
class Timeline:
    """One drawing. paths: (kind, d). lanes: (y, label)."""

    number: int
    title: str
    height: int = 0
    panel: int = 0
    ticks: list[Tick] = field(default_factory=list)
    lines: list[Tick] = field(default_factory=list)
    lanes: list[tuple[int, str]] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    paths: list[tuple[str, str]] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def weight(self) -> int:
        """Bytes in the page, about."""
        single = 210 * len(self.bars) + 120 * (len(self.marks) + len(self.ticks) + len(self.lines))
        return (
            4000
            + single
            + sum(len(d) + 60 for _, d in self.paths)
            + sum(len(curve.points) for curve in self.curves)
        )


class _Scale:
    """From seconds to the drawing."""

    def __init__(self, seconds: float) -> None:
        self.seconds = max(seconds, 0.001)

    def x(self, seconds: float) -> float:
        part = min(max(seconds / self.seconds, 0.0), 1.0)
        return round(LEFT + part * (WIDTH - LEFT - RIGHT), 1)

    def ticks(self) -> list[Tick]:
        steps = (m * 10**e for e in range(-4, 9) for m in (1, 2, 5))
        if self.seconds > 60:
            steps = (60.0 * m for m in (0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 240, 720))
        step = next((one for one in steps if self.seconds / one <= 8), self.seconds)
        return [
            Tick(self.x(n * step), duration(n * step) if n else "0")
            for n in range(int(self.seconds / step) + 1)
        ]


def draw(times: Times, texts: Texts, anchors: dict[str, str], share: int = 1) -> Timeline:
    """The drawing of a segment. anchors: of the calls that the page has. share: how many drawings
    the page has; each gets its share of details."""
    segment = times.segment
    limits = budgets_of(segment.settings)
    scale = _Scale(_axis_end(segment.last, limits.time))
    drawing = Timeline(segment.number, _title(times))
    drawing.ticks = scale.ticks()
    lanes = _lanes(times.calls, segment.last)
    single = SINGLE // share
    bars = _model_bars(times, scale) + _call_bars(times, lanes, scale, texts, anchors)
    many = len(bars) > single
    drawing.paths = _merged(bars, 2.0 if share > 1 else 1.0) if many else []
    drawing.bars = [] if many else bars
    marks = _marks(times, lanes, scale, texts)
    drawing.marks = marks if len(marks) <= single // 3 else []
    if not drawing.marks:
        drawing.paths += _merged_marks(marks)
    used = max(lanes.values(), default=-1) + 1
    drawing.lanes = [(TOP, "model"), *((_y(n), "calls" if n == 0 else "") for n in range(used))]
    drawing.panel = _y(used) + 10
    drawing.height = drawing.panel + PANEL + 16
    for seconds, reason in segment.cancels[:10]:
        drawing.lines.append(Tick(scale.x(seconds), f"stop: {texts.line(reason, 40)}", "order"))
    _add_budgets(drawing, times, limits, scale)
    if used == LANES and _most_at_once(times.calls, segment.last) > LANES:
        drawing.notes.append(f"More than {LANES} calls at a time share the last lane.")
    return drawing


def _axis_end(last: float, budget: float | None) -> float:
    """The time budget is in the drawing if it is not far beyond the end."""
    return max(last, budget) if budget is not None and budget <= 1.6 * last else last


def _title(times: Times) -> str:
    calls = count(len(times.calls), "call")
    turns = count(len(times.turns), "turn")
    return f"Segment {times.segment.number}: {duration(times.segment.last)}, {turns}, {calls}"


def _y(lane: int) -> int:
    return TOP + LANE * (lane + 1) + 6


def _lanes(calls: list[Call], until: float) -> dict[str, int]:
    """A lane for each call: the first that is free."""
    lanes: dict[str, int] = {}
    free = list(range(LANES))
    busy: list[tuple[float, int]] = []
    for call in sorted(calls, key=lambda call: interval(call, until)[0]):
        asked, _, ended = interval(call, until)
        while busy and busy[0][0] <= asked:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else LANES - 1
        if lane != LANES - 1 or not any(one == lane for _, one in busy):
            heapq.heappush(busy, (ended, lane))
        lanes[call.id] = lane
    return lanes


def _most_at_once(calls: list[Call], until: float) -> int:
    steps: list[tuple[float, int]] = []
    for call in calls:
        asked, _, ended = interval(call, until)
        steps += [(asked, 1), (ended, -1)]
    now = most = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most


def _bar(scale: _Scale, span: tuple[float, float], y: float, *rest: str) -> Bar:
    x = scale.x(span[0])
    return Bar(x, y, max(round(scale.x(span[1]) - x, 1), 1.0), *rest)


def _model_bars(times: Times, scale: _Scale) -> list[Bar]:
    bars = []
    for start, end, turn in times.model():
        what = "no answer" if turn is None else f"turn {turn}"
        kind = "unanswered" if turn is None else "model"
        title = f"model: {what}, {duration(end - start)}"
        bars.append(_bar(scale, (start, end), TOP, kind, title))
    return bars


def _call_bars(
    times: Times, lanes: dict[str, int], scale: _Scale, texts: Texts, anchors: dict[str, str]
) -> list[Bar]:
    bars = []
    titled = len(times.calls) <= SINGLE
    for call in times.calls:
        asked, begun, ended = interval(call, times.segment.last)
        y = _y(lanes[call.id])
        title = ""
        if titled:
            outcome = call.outcome.value if call.outcome else "no end is recorded"
            what = f"verify {call.command}" if call.is_verify else call.tool
            title = f"{texts.line(call.id, 60)} {texts.line(what, 60)}: {outcome}, "
            title += duration(ended - begun)
        if scale.x(begun) - scale.x(asked) >= 1:
            bars.append(_bar(scale, (asked, begun), y, "waiting", title and f"{title} (waiting)"))
        kind = KINDS[call.outcome]
        bars.append(_bar(scale, (begun, ended), y, kind, title, anchors.get(call.id, "")))
    return bars


def _merged(bars: list[Bar], step: float) -> list[tuple[str, str]]:
    """One path of each kind. Bars that touch are one."""
    by_place: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for bar in bars:
        start = bar.x // step * step
        end = max(start + step, bar.x + bar.width)
        by_place.setdefault((bar.kind, bar.y), []).append((start, end))
    paths: dict[str, list[str]] = {}
    for (kind, y), places in by_place.items():
        for start, end in _joined(sorted(places)):
            paths.setdefault(kind, []).append(
                f"M{start:g} {y:g}h{end - start:g}v{BAR}h-{end - start:g}z"
            )
    return [(kind, "".join(parts)) for kind, parts in paths.items()]


def _joined(places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    joined: list[tuple[float, float]] = []
    for start, end in places:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, round(end)))
    return joined


def _marks(times: Times, lanes: dict[str, int], scale: _Scale, texts: Texts) -> list[Mark]:
    """The flag and the rungs of every call that was stopped."""
    marks: list[Mark] = []
    for call in times.calls:
        if call.ended is None or "ended" not in call.rungs_ms:
            continue
        flag = call.ended - call.rungs_ms["ended"] / 1000
        y = _y(lanes[call.id]) + BAR / 2
        name = texts.line(call.id, 60)
        for rung in SHAPES:
            after = call.rungs_ms.get(rung)
            if after is not None:
                title = f"{name}: {rung} after {after:.0f} ms" if after else f"{name}: {rung}"
                marks.append(Mark(scale.x(flag + after / 1000), y, rung, title))
    return marks


def _merged_marks(marks: list[Mark]) -> list[tuple[str, str]]:
    paths: dict[str, dict[str, None]] = {}
    for mark in marks:
        piece = f"M{round(mark.x)} {mark.y:g}{SHAPES[mark.kind]}"
        paths.setdefault(mark.kind, {})[piece] = None
    return [(f"mark {kind}", "".join(pieces)) for kind, pieces in paths.items()]


def _add_budgets(drawing: Timeline, times: Times, limits: Budgets, scale: _Scale) -> None:
    if limits.time is not None:
        label = f"time budget: {duration(limits.time)}"
        if limits.time <= scale.seconds:
            drawing.lines.append(Tick(scale.x(limits.time), label, "budget"))
        else:
            drawing.notes.append(f"The {label} lies beyond the right edge.")
    drawing.curves = limits.curves(times, scale.x, drawing.panel, PANEL)
