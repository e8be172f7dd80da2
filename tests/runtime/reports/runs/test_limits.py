"""Which limits a run has met: each is a line, and a run that met none has none."""

from __future__ import annotations

import signal
from pathlib import Path

import made_runs
from made_runs import Clock
from sandbox_agent.journal.events import AnyEvent
from sandbox_agent.reports.report import report_of
from sandbox_agent.reports.runs.limits import limits_met
from sandbox_agent_sandbox.outcome import Outcome

CLOCK = Clock()
LIMITS = {"sandbox": {"limits": {"output": 1_000_000}}}


def met(*events: AnyEvent) -> list[str]:
    return limits_met(report_of("r", Path("r"), [made_runs.begun(CLOCK, **LIMITS), *events]))


def test_a_run_that_met_no_limit() -> None:
    assert met(*made_runs.failed_run()[3:]) == []


def test_budgets_times_outputs_and_answers() -> None:
    xcpu = 128 + signal.SIGXCPU
    assert met(
        made_runs.turn(CLOCK, 1, 1.0, text="half", finish_reason="length"),
        *made_runs.made(CLOCK, "a", 1.0, 31.0, outcome=Outcome.TIMEOUT),
        *made_runs.made(CLOCK, "b", 1.0, 2.0, exit_status=xcpu, outcome=Outcome.ERROR),
        *made_runs.made(CLOCK, "c", 1.0, 2.0, exit_status=-signal.SIGXFSZ, outcome=Outcome.ERROR),
        *made_runs.made(CLOCK, "d", 1.0, 2.0, output_bytes=5_000_000),
        made_runs.ended(CLOCK, 40.0, "budget", 3, reason="3 of 3 turns are used"),
    ) == [
        "turn 1: a limit of the model cut the answer off",
        "a: its time of 30.0 s was up",
        "b: its CPU time was used up",
        "c: a file became longer than limits.file_size",
        "d: it printed 5.0 MB; 1.0 MB were kept",
        "budget: 3 of 3 turns are used",
    ]


def test_settings_of_another_form_are_no_limit() -> None:
    for limits in ([], {"limits": None}, {"limits": {"output": "much"}}):
        begun = made_runs.begun(CLOCK, sandbox=limits)
        made = made_runs.made(CLOCK, "d", 1.0, 2.0, output_bytes=5_000_000)
        assert limits_met(report_of("r", Path("r"), [begun, *made])) == []
