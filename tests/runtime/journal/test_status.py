"""The statuses of a conversation: which there are, which may follow, and their exit codes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from sandbox_agent.errors import AgentFailed, ConfigError, ModelError
from sandbox_agent.journal.status import EXIT_CODES, Status, move
from sandbox_agent.run.end import End, end_by_error, end_by_stop, with_survivors
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_sandbox.errors import PolicyError, SandboxUnavailable
from sandbox_agent_sandbox.outcome import Survivor
from talking import FINAL, Watch, shell, talk

LIVE = {
    # Before and during a run. Text of a status: what may come next.
    "idle": {"running"},
    "running": {"paused", "done", "failed", "budget", "interrupted", "denied", "error"},
}
ENDS = {
    # How a run ends, and the exit code of a command whose run ends so.
    "paused": 0,  # between two steps, on request: nothing failed
    "done": 0,  # the agent says so, and every verify command agrees
    "failed": 1,  # the agent could not do it, or verify disagrees
    "budget": 3,  # turns, tokens, money or time are used up
    "interrupted": 130,  # from outside; 128 + SIGINT
    "denied": 6,  # an approval was refused
    "error": 70,  # a bug; other errors have codes of their own
}
"""Written by hand from the promise, not from the table: after any end another run may follow, and
nothing else."""


def may_follow(now: str, to: str) -> bool:
    return to in LIVE.get(now, {"running"})


def test_there_are_these_statuses_and_no_others() -> None:
    assert {status.value for status in Status} == LIVE.keys() | ENDS.keys()


@pytest.mark.parametrize(("now", "to"), list(itertools.product(Status, Status)))
def test_a_move_is_legal_exactly_if_a_user_may_see_it(now: Status, to: Status) -> None:
    if may_follow(now.value, to.value):
        assert move(now, to) is to
    else:
        with pytest.raises(ValueError, match=f"from {now.value} to {to.value}"):
            move(now, to)


def test_every_end_has_the_promised_exit_code() -> None:
    assert {status.value: int(code) for status, code in EXIT_CODES.items()} == ENDS
    for status, code in ENDS.items():
        assert End(Status(status), "").code == code


def test_a_user_sees_the_promised_moves(tmp_path: Path, watch: Watch) -> None:
    seen: list[str] = []
    moves: list[tuple[str, str]] = []
    steps = (shell("true"), shell("true"), FINAL)
    with talk(tmp_path, watch, *steps, budgets={"turns": 1}, verify=["false"]) as conv:
        for stop in (None, conv.pause, conv.interrupt, None, None):

            def also(event: object, stop: Callable[[], None] | None = stop) -> None:
                seen.append(conv.status.value)
                if stop is not None:
                    stop()

            watch.also, before = also, conv.status.value
            assert conv.run().status is conv.status
            moves.append((before, conv.status.value))
    assert set(seen) == {"running"}
    assert moves == [
        ("idle", "budget"),
        ("budget", "paused"),
        ("paused", "interrupted"),
        ("interrupted", "budget"),
        ("budget", "failed"),
    ]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (AgentFailed("x"), Status.FAILED, 1),
        (ConfigError("x"), Status.ERROR, 2),
        (PolicyError("x"), Status.ERROR, 2),
        (ModelError("x"), Status.ERROR, 4),
        (SandboxUnavailable("x"), Status.ERROR, 5),
        (OSError(28, "x"), Status.ERROR, 70),
    ],
)
def test_errors_have_the_documented_exit_codes(error: Exception, status: Status, code: int) -> None:
    end = end_by_error(error)
    assert (end.status, end.code) == (status, code)


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        (CancelReason.INTERRUPT, Status.INTERRUPTED, 143),
        (CancelReason.CLOSED, Status.INTERRUPTED, 143),
        (CancelReason.CANCELLED, Status.INTERRUPTED, 143),
        (CancelReason.BUDGET, Status.BUDGET, 3),
        (CancelReason.FAILED, Status.ERROR, 70),
    ],
)
def test_who_stopped_a_run_decides_its_status(
    reason: CancelReason, status: Status, code: int
) -> None:
    end = end_by_stop(reason, "why", 143, OSError(5, "x"))
    assert (end.status, end.code, end.reason) == (status, code, "why")


def test_a_survivor_beats_all_other_exit_codes_and_success() -> None:
    alive = (Survivor(42, "dd if=/dev/disk"),)
    for status in EXIT_CODES:
        end = with_survivors(End(status, "so"), alive)
        assert end.code == 7
        assert end.status is not Status.DONE
        assert "42 (dd if=/dev/disk)" in end.reason
