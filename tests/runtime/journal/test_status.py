"""The statuses of a conversation: every move that is not in the table is refused."""

from __future__ import annotations

import itertools

import pytest
from sandbox_agent.errors import AgentFailed, ConfigError, ModelError
from sandbox_agent.journal.status import EXIT_CODES, MOVES, Status, move
from sandbox_agent.run.end import End, end_by_error, end_by_stop, with_survivors
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_sandbox.errors import PolicyError, SandboxUnavailable
from sandbox_agent_sandbox.outcome import Survivor


@pytest.mark.parametrize(("now", "to"), list(itertools.product(Status, Status)))
def test_only_moves_of_the_table_are_legal(now: Status, to: Status) -> None:
    if to in MOVES[now]:
        assert move(now, to) is to
    else:
        with pytest.raises(ValueError, match=f"from {now.value} to {to.value}"):
            move(now, to)


def test_every_end_allows_a_new_run_and_has_an_exit_code() -> None:
    for status in set(Status) - {Status.IDLE, Status.RUNNING}:
        assert MOVES[status] == {Status.RUNNING}
        assert End(status, "").code == EXIT_CODES[status]


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
