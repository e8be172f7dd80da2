"""When an interrupted command has returned, its work has stopped, and the record says so."""

from __future__ import annotations

import signal

import pytest
import struck
from identity import Person

SIGNALS = pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["INT", "TERM", "HUP"],
)
NOISE = 4
"""Times the bound that a test allows on a shared machine. `scripts/bench` prints the figures."""

BOUND = struck.GRACE + struck.TERM + 0.5
EXEC_BOUND = struck.GRACE + 1.0 + 0.5
"""Seconds. `exec` has an option for its grace; its term is the default."""
KILL_BOUND = 0.25


def assert_nothing_left(after: struck.After) -> None:
    assert after.left == []
    assert after.lasting == []


def assert_complete_record(run: struck.Struck, code: int, calls: int) -> None:
    result = run.result()
    assert result["status"] == "interrupted"
    assert result["exit_code"] == code
    assert result["survivors"] == []
    assert len(result["calls"]) == calls
    for call in result["calls"]:
        assert call["outcome"] in ("cancelled", "killed")
        assert call["started"] == "yes"
        assert call["survivors"] == []
    journal = run.journal()
    kinds = [event["event"] for event in journal]
    assert kinds[0] == "journal"
    assert kinds.index("segment") < kinds.index("dispatching")
    assert kinds[-1] == "segment_ended"
    assert journal[-1]["exit_code"] == code
    assert "cancel_requested" in kinds
    for kind in ("dispatching", "started", "ended"):
        assert kinds.count(kind) == calls
    assert {event["call"] for event in journal if event["event"] == "ended"} == {
        call["id"] for call in result["calls"]
    }


@SIGNALS
@pytest.mark.parametrize("calls", [1, 2], ids=["one-call", "two-calls"])
def test_an_interrupted_run_leaves_nothing_and_says_so(
    person: Person, calls: int, number: int, code: int
) -> None:
    with struck.task_at_work(person, calls) as run:
        after = run.strike(number)
    assert after.code == code, after.stderr
    assert_nothing_left(after)
    assert_complete_record(run, code, calls)
    assert after.stdout == ""
    assert "Traceback" not in after.stderr
    assert after.seconds < BOUND * NOISE


def test_a_command_that_ignores_signals_is_killed_after_grace_and_term(person: Person) -> None:
    with struck.task_at_work(person, 2, struck.STUBBORN) as run:
        after = run.strike(signal.SIGINT)
    assert after.code == 130, after.stderr
    assert_nothing_left(after)
    assert_complete_record(run, 130, 2)
    for call in run.result()["calls"]:
        assert (call["outcome"], call["rung"]) == ("killed", "kill")
        # The promised patience is kept: neither rung came early.
        rungs = call["rungs_ms"]
        assert rungs["term"] >= struck.GRACE * 1000
        assert rungs["kill"] - rungs["term"] >= struck.TERM * 1000
    # The maximum of the two ladders, never their sum.
    assert struck.GRACE + struck.TERM <= after.seconds < BOUND * NOISE


def test_a_second_interrupt_goes_straight_to_term(person: Person) -> None:
    with struck.task_at_work(person, 1, struck.STUBBORN, grace=30.0) as run:
        after = run.strike(signal.SIGINT, signal.SIGINT, heeded=True)
    assert after.code == 130, after.stderr
    assert_nothing_left(after)
    assert_complete_record(run, 130, 1)
    (call,) = run.result()["calls"]
    assert (call["outcome"], call["rung"]) == ("killed", "kill")
    assert after.seconds < struck.TERM + 0.5 * NOISE


@SIGNALS
def test_an_interrupted_exec_leaves_nothing(person: Person, number: int, code: int) -> None:
    with struck.command_at_work(person) as run:
        after = run.strike(number)
    assert after.code == code, after.stderr
    assert_nothing_left(after)
    assert_complete_record(run, code, 1)
    assert "Traceback" not in after.stderr
    assert after.seconds < EXEC_BOUND * NOISE


def test_the_first_signal_decides_the_exit_code(person: Person) -> None:
    with struck.task_at_work(person) as run:
        after = run.strike(signal.SIGTERM, signal.SIGINT, signal.SIGINT, signal.SIGHUP)
    # Signals that are pending together are delivered lowest number first, so that INT or HUP may
    # overtake TERM on their way: any of the three, but the record must agree with the exit.
    assert after.code in (129, 130, 143), after.stderr
    assert_nothing_left(after)
    assert_complete_record(run, after.code, 1)


def test_nothing_outlives_a_killed_agent(person: Person) -> None:
    with struck.task_at_work(person, 2) as run:
        after = run.kill()
    assert after.code == -signal.SIGKILL
    assert_nothing_left(after)
    assert after.seconds < KILL_BOUND * NOISE
    # What was written ahead is still there: both calls are known to have started.
    kinds = [event["event"] for event in run.journal()]
    assert kinds.count("started") == 2
    assert "ended" not in kinds
    assert run.result()["status"] == "running"


def test_nothing_outlives_a_killed_exec(person: Person) -> None:
    with struck.command_at_work(person) as run:
        after = run.kill()
    assert_nothing_left(after)
    assert after.seconds < KILL_BOUND * NOISE
