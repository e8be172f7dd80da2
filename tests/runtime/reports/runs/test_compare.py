"""What differs between two runs is said, and what does not is not."""

from __future__ import annotations

from pathlib import Path

import made_runs
from made_runs import HOSTILE, Clock
from sandbox_agent.journal.events import AnyEvent, UserText
from sandbox_agent.reports.report import Report, report_of
from sandbox_agent.reports.runs.compare import compared, comparison_lines

CLOCK = Clock()


def report(*events: AnyEvent, run: str = "one") -> Report:
    return report_of(run, Path(run), events)


def text(left: Report, right: Report) -> str:
    return "\n".join(comparison_lines(compared(left, right, lambda text: text)))


def other(*more: AnyEvent, **task: object) -> Report:
    return report(
        made_runs.opened(CLOCK),
        CLOCK(UserText, text="Go."),
        made_runs.begun(CLOCK, **task),
        made_runs.turn(CLOCK, 1, 1.0, *(made_runs.shell(f"c{n}", f"step {n}") for n in range(6))),
        *(event for n in range(6) for event in made_runs.made(CLOCK, f"c{n}", 1.0, 2.0)),
        *more,
        run="two",
    )


def test_a_run_is_like_itself() -> None:
    one = report(*made_runs.failed_run())
    found = compared(one, one, lambda text: text)
    assert not found.settings and all(a.left == a.right for a in found.results)
    lines = text(one, one)
    assert "the settings are the same" in lines and "the calls are the same" in lines
    assert not any(line.startswith("*") for line in lines.splitlines())


def test_ends_figures_settings_and_verify_are_compared() -> None:
    one = report(*made_runs.failed_run())
    two = other(made_runs.ended(CLOCK, 9.0), verify=["make"], budgets={"turns": 9})
    found = compared(one, two, lambda text: text)
    results = {one.field: (one.left, one.right) for one in found.results}
    assert results["status"] == ("failed", "done")
    assert results["exit_code"] == (1, 0)
    assert results["calls"] == (1, 6)
    assert results["cost_usd"] == (0.03, None)
    assert results["seconds"] == (4.2, 9.0)
    assert results["verify pytest -q"] == ("failed", None)
    assert results["message"] == ("Done.", None)
    assert {one.field for one in found.settings} == {"verify", "budgets.turns"}
    lines = text(one, two)
    assert "* budgets.turns: - -> 9" in lines
    assert "* status" in lines and "\n  model" in lines


def test_calls_are_compared_in_their_order_and_long_equal_stretches_are_short() -> None:
    more = made_runs.turn(CLOCK, 2, 3.0, made_runs.shell("d", "last one"))
    found = text(other(), other(more))
    assert '+ shell command="last one" [no end]' in found
    assert "... 6 equal calls" in found and "step 3" not in found


def test_a_narrow_terminal_gets_narrow_columns() -> None:
    one = report(*made_runs.failed_run())
    found = compared(one, other(made_runs.ended(CLOCK, 9.0)), lambda text: text)
    wide, narrow = (list(comparison_lines(found, width)) for width in (None, 60))
    assert len(wide) == len(narrow)
    rows = narrow[: len(found.results) + 1]
    assert max(map(len, rows)) <= 60 and any("..." in row for row in rows)
    assert any("verify failed: pytest -q" in row for row in wide)


def test_hostile_text_is_escaped_and_secrets_are_masked() -> None:
    odd = other(
        made_runs.turn(CLOCK, 2, 3.0, made_runs.shell("d", HOSTILE), text=HOSTILE),
        made_runs.turn(CLOCK, 3, 4.0, text=HOSTILE),
        made_runs.ended(CLOCK, 9.0, HOSTILE, reason=HOSTILE),
        model=HOSTILE,
        **{HOSTILE: HOSTILE, "list": [HOSTILE, {"deep": HOSTILE}]},
    )
    lines = text(report(*made_runs.failed_run()), odd)
    assert not set(lines) & set("\x1b\0\x07\x9b\u202e\u2028")
    found = compared(odd, other(), lambda text: text.replace("script", "***"))
    assert "script" not in repr([one for one in found.settings if one.field != HOSTILE])
    assert "<script>" not in repr(found.results) + repr(found.calls)
