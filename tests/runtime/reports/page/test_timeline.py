"""The drawing of a segment: bars where the events were, and small whatever a run does."""

from __future__ import annotations

from typing import Any

import hand_made
from hand_made import Maker, long_run, short_run
from sandbox_agent.journal.events import CancelRequested
from sandbox_agent.reports.mask import Mask
from sandbox_agent.reports.page.spans import times_of
from sandbox_agent.reports.page.texts import Texts
from sandbox_agent.reports.page.timeline import LEFT, RIGHT, WIDTH, Timeline, draw


def drawing_of(journal: Any, share: int = 1) -> Timeline:
    report = hand_made.report(journal)
    anchors = {call: call for call in report.calls}
    return draw(times_of(report)[-1], Texts(Mask(), 100), anchors, share)


def timed(**budgets: float) -> list[Any]:
    """Ten seconds: the model for 2, a call for 3, another at the same time that is killed at 8,
    the model until the stop at 10."""
    make = Maker()
    journal: list[Any] = [make.segment(budgets=budgets)]
    journal.append(make.answer("", ("shell", {}), ("shell", {}), after=2.0))
    make.step = 0.0
    journal += [*make.begun("call_1_1"), *make.begun("call_1_2")]
    make.step = 3.0 - 0.04
    journal.append(make.ended("call_1_1", ""))
    make.step = 3.0
    journal.append(make.killed("call_1_2"))
    make.step = 2.0
    journal.append(CancelRequested(reason="interrupt", **make.stamp()))
    make.step = 0.0
    journal.append(make.end("interrupted"))
    return journal


def x(seconds: float, whole: float = 10.0) -> float:
    return LEFT + seconds / whole * (WIDTH - LEFT - RIGHT)


def test_bars_and_marks_stand_where_the_events_were() -> None:
    drawing = drawing_of(timed())
    shown = [bar for bar in drawing.bars if bar.kind != "waiting"]
    bars = [(bar.kind, bar.x, bar.x + bar.width) for bar in shown]
    expected = [("model", 0, 2), ("unanswered", 8, 10), ("ok", 2, 5), ("stopped", 2, 8)]
    for (kind, start, end), (wanted, first, last) in zip(bars, expected, strict=True):
        assert kind == wanted
        assert abs(start - x(first)) < 6
        assert abs(end - x(last)) < 6
    assert shown[2].y < shown[3].y
    assert [mark.kind for mark in drawing.marks] == ["flag", "term", "kill"]
    assert abs(drawing.marks[-1].x - x(8 - 0.01)) < 6
    (order,) = drawing.lines
    assert (order.kind, order.label) == ("order", "stop: interrupt")
    assert abs(order.x - x(10)) < 6


def test_budgets_are_lines() -> None:
    drawing = drawing_of(timed(time=16.0, turns=4.0))
    (budget,) = [line for line in drawing.lines if line.kind == "budget"]
    assert budget.x == WIDTH - RIGHT
    limited = {curve.kind: curve.limited for curve in drawing.curves}
    assert limited == {"turns": True, "tokens": False, "cost": False}
    (far,) = drawing_of(timed(time=3600.0)).notes
    assert far == "The time budget: 1 h lies beyond the right edge."


def test_ten_thousand_calls_are_a_small_drawing() -> None:
    for journal in (long_run(5000), long_run(1, 5000)):
        drawing = drawing_of(journal)
        assert not drawing.bars
        assert drawing.weight < 250_000


def test_many_calls_at_a_time_share_the_last_lane() -> None:
    make = Maker(step=0.01)
    journal: list[Any] = [make.segment(), make.answer("", *[("shell", {})] * 20)]
    for n in range(1, 21):
        journal += make.begun(f"call_1_{n}")
    journal += [make.ended(f"call_1_{n}", "") for n in range(1, 21)]
    drawing = drawing_of(journal)
    assert drawing.notes[-1] == "More than 8 calls at a time share the last lane."
    assert len(drawing.lanes) == 1 + 8


def test_damaged_settings_and_times_do_no_harm() -> None:
    for budgets in (None, "none", {"time": "soon", "turns": -1, "tokens": None, "cost_usd": []}):
        make = Maker()
        journal = [make.segment(budgets=budgets), make.answer("x")]
        assert not [line for line in drawing_of(journal).lines if line.kind == "budget"]
    assert drawing_of([Maker().segment()]).ticks
    assert drawing_of(short_run()).bars
