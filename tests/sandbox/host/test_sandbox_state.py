"""A sandbox's states, with a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_agent_sandbox.errors import SandboxBroken
from sandbox_agent_sandbox.host.deadlines import Deadlines
from sandbox_agent_sandbox.host.sandbox_state import MOVES, ORDER_AGAIN, SandboxState, State

DEADLINES = Deadlines(open=30.0, orphan=0.25, proof=5.0)
AGAIN = 2.0 + ORDER_AGAIN
"""After CLOSE."""
WHY = SandboxBroken("why")

Step = Callable[[SandboxState], object]
STARTED: Step = lambda sandbox: sandbox.spawner_started()  # noqa: E731
PLANNED: Step = lambda sandbox: sandbox.plan_sent(0.0)  # noqa: E731
INIT: Step = lambda sandbox: sandbox.init_born()  # noqa: E731
HELLO: Step = lambda sandbox: sandbox.built()  # noqa: E731
SPAWNER_ENDED: Step = lambda sandbox: sandbox.spawner_ended(1.0)  # noqa: E731
FAIL: Step = lambda sandbox: sandbox.fail(WHY)  # noqa: E731
CLOSE: Step = lambda sandbox: sandbox.close(2.0)  # noqa: E731
CLOSED: Step = lambda sandbox: sandbox.closed(WHY)  # noqa: E731


def after(*steps: Step) -> SandboxState:
    sandbox = SandboxState(DEADLINES)
    for step in steps:
        step(sandbox)
    return sandbox


@pytest.mark.parametrize(
    ("steps", "state", "deadline"),
    [
        ((STARTED,), State.WAITING, inf),  # the plan may take any time
        ((STARTED, SPAWNER_ENDED), State.ORPHANED, 1.25),
        ((STARTED, CLOSE), State.ABANDONED, 7.0),
        ((STARTED, CLOSE, SPAWNER_ENDED), State.ABANDONED, 1.25),
        ((STARTED, PLANNED), State.BUILDING, 30.0),
        ((STARTED, PLANNED, INIT), State.INIT_BORN, 30.0),
        ((STARTED, PLANNED, INIT, HELLO), State.OPEN, inf),
        # The spawner's death is no failure yet: init may have been made, and its message be due.
        ((STARTED, PLANNED, SPAWNER_ENDED), State.ORPHANED, 1.25),
        ((STARTED, PLANNED, SPAWNER_ENDED, INIT), State.INIT_BORN, 30.0),
        ((STARTED, PLANNED, INIT, SPAWNER_ENDED), State.INIT_BORN, 30.0),
        ((STARTED, PLANNED, SPAWNER_ENDED, FAIL), State.FAILED, inf),
        # Closed before init came: wait until it is certain that none comes, or for the proof.
        ((STARTED, PLANNED, CLOSE), State.ABANDONED, 7.0),
        ((STARTED, PLANNED, CLOSE, SPAWNER_ENDED), State.ABANDONED, 1.25),
        ((STARTED, PLANNED, SPAWNER_ENDED, CLOSE), State.ABANDONED, 1.25),
        ((STARTED, PLANNED, CLOSE, INIT), State.CLOSING, AGAIN),
        ((STARTED, PLANNED, CLOSE, FAIL), State.CLOSING, AGAIN),
        # What comes too late changes nothing.
        ((STARTED, PLANNED, FAIL, INIT, HELLO), State.FAILED, inf),
        ((STARTED, PLANNED, INIT, CLOSE, HELLO), State.CLOSING, AGAIN),
        ((STARTED, PLANNED, INIT, HELLO, CLOSE, FAIL), State.CLOSING, AGAIN),
        ((STARTED, PLANNED, INIT, HELLO, FAIL, CLOSE), State.CLOSING, AGAIN),
    ],
)
def test_where_a_sandbox_is_after_what_was_seen(
    steps: tuple[Step, ...], state: State, deadline: float
) -> None:
    sandbox = after(*steps)
    assert (sandbox.state, sandbox.deadline) == (state, deadline)


def test_the_time_for_building_is_over_at_its_time_and_not_before() -> None:
    sandbox = after(STARTED, PLANNED, INIT)
    assert not sandbox.takes_too_long_to_build(29.99)
    assert sandbox.takes_too_long_to_build(30.0)
    HELLO(sandbox)
    assert not sandbox.takes_too_long_to_build(31.0)


def test_a_program_that_stood_still_gets_time_to_read_what_came_meanwhile() -> None:
    sandbox = after(STARTED, PLANNED)
    sandbox.catch_up(102.0)
    assert not sandbox.takes_too_long_to_build(101.9)
    assert sandbox.takes_too_long_to_build(102.0)


def test_nothing_follows_an_ended_spawner_for_ever() -> None:
    sandbox = after(STARTED, PLANNED, SPAWNER_ENDED)
    assert not sandbox.has_no_init_to_come(1.24)
    assert sandbox.has_no_init_to_come(1.25)
    INIT(sandbox)
    assert not sandbox.has_no_init_to_come(2.0)


def test_the_proof_is_waited_for_from_the_first_close() -> None:
    sandbox = after(STARTED, PLANNED, INIT, HELLO)
    assert not sandbox.has_no_proof_to_come(100.0)
    assert sandbox.close(2.0)
    assert not sandbox.close(6.0)
    assert not sandbox.has_no_proof_to_come(6.99)
    assert sandbox.has_no_proof_to_come(7.0)


def test_the_order_to_end_is_repeated_until_the_proof() -> None:
    sandbox = after(STARTED, PLANNED, INIT, HELLO)
    assert not sandbox.wants_order(100.0), "it is open"
    CLOSE(sandbox)
    assert not sandbox.wants_order(AGAIN - 0.01)
    assert sandbox.wants_order(AGAIN)
    assert not sandbox.wants_order(AGAIN + 0.01)
    assert sandbox.deadline == pytest.approx(AGAIN + ORDER_AGAIN)
    assert sandbox.wants_order(6.9)
    assert sandbox.deadline == 7.0, "the end of patience"


def test_the_first_failure_stays() -> None:
    first, second = SandboxBroken("first"), SandboxBroken("second")
    sandbox = after(STARTED, PLANNED, INIT, HELLO)
    for failure in (first, second):
        sandbox.fail(failure)
    sandbox.closed(second)
    assert sandbox.failure is first


@pytest.mark.parametrize(
    "steps",
    [
        (HELLO,),  # nothing has been started
        (PLANNED,),
        (STARTED, INIT),  # of what plan?
        (STARTED, PLANNED, PLANNED),
        (STARTED, PLANNED, HELLO),  # there is no init that could say so
        (STARTED, STARTED),
        (STARTED, PLANNED, INIT, INIT),
        (STARTED, PLANNED, INIT, HELLO, CLOSED, FAIL),
        (STARTED, PLANNED, INIT, HELLO, CLOSED, CLOSE),
        (STARTED, PLANNED, CLOSED, INIT),
        (STARTED, PLANNED, CLOSED, CLOSED),
    ],
)
def test_what_cannot_be_raises(steps: tuple[Step, ...]) -> None:
    before = after(*steps[:-1])
    with pytest.raises(AssertionError, match="no move from"):
        steps[-1](before)


STEPS = st.sampled_from([INIT, HELLO, SPAWNER_ENDED, FAIL, CLOSE])


@settings(database=None, deadline=None)
@given(st.lists(STEPS, max_size=12))
def test_no_order_of_events_reopens_what_has_failed_or_is_closing(steps: list[Step]) -> None:
    sandbox = after(STARTED, PLANNED)
    over = {State.FAILED, State.ABANDONED, State.CLOSING}
    for step in steps:
        before = sandbox.state
        try:
            step(sandbox)
        except AssertionError:
            assert before not in {State.FAILED, State.CLOSING}, "a late message is no bug of ours"
            continue
        assert sandbox.state in MOVES[before] | {before}
        if before in over:
            assert sandbox.state in over
