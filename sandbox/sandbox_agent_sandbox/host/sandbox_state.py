"""The states of a sandbox, from the start of its spawner to its end. `supervisor` does the work.

One state machine per sandbox, one table of legal moves. It has no thread and no clock of its own:
the supervisor's thread calls it with the time (CLOCK_MONOTONIC seconds) and with what it saw.

    starting -> building -> init born -> open             the sandbox is built
                building -> orphaned -> init born         the spawner ended before init came
    each of them -> failed                                it takes no more calls
    building, orphaned -> abandoned -> closing            closed before init came
    init born, open, failed -> closing -> closed          closed

starting: the spawner is being started. building: the spawner makes init. orphaned: what the spawner
had begun may still follow, see `Launch.kill`. init born: init builds the sandbox. open: it takes
calls. failed: `failure` says why. abandoned: init comes, or it is certain that none will come.
closing: init has SIGKILL, and its end is waited for. closed: nothing is left, or the survivors have
been named.
"""

from __future__ import annotations

from enum import Enum
from math import inf

from sandbox_agent_sandbox.errors import SandboxError, SandboxUnavailable
from sandbox_agent_sandbox.host.deadlines import Deadlines


class State(Enum):
    """Where a sandbox is between its start and its end."""

    STARTING = "starting"
    WAITING = "waiting for its plan"
    BUILDING = "building"
    ORPHANED = "orphaned"
    INIT_BORN = "init born"
    OPEN = "open"
    FAILED = "failed"
    ABANDONED = "abandoned"
    CLOSING = "closing"
    CLOSED = "closed"


# Every state may become closed: that is what happens when the supervisor's thread meets a bug.
MOVES: dict[State, frozenset[State]] = {
    State.STARTING: frozenset({State.WAITING, State.FAILED, State.CLOSED}),
    State.WAITING: frozenset(
        {State.BUILDING, State.ORPHANED, State.FAILED, State.ABANDONED, State.CLOSED}
    ),
    State.BUILDING: frozenset(
        {State.ORPHANED, State.INIT_BORN, State.FAILED, State.ABANDONED, State.CLOSED}
    ),
    State.ORPHANED: frozenset({State.INIT_BORN, State.FAILED, State.ABANDONED, State.CLOSED}),
    State.INIT_BORN: frozenset({State.OPEN, State.FAILED, State.CLOSING, State.CLOSED}),
    State.OPEN: frozenset({State.FAILED, State.CLOSING, State.CLOSED}),
    State.FAILED: frozenset({State.CLOSING, State.CLOSED}),
    State.ABANDONED: frozenset({State.CLOSING, State.CLOSED}),
    State.CLOSING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}

_BUILT = frozenset({State.BUILDING, State.ORPHANED, State.INIT_BORN, State.ABANDONED})
"""The time for building counts."""

_WITHOUT_SPAWNER = frozenset({State.ORPHANED, State.ABANDONED})
"""The time after the spawner's end counts."""

_CLOSED = frozenset({State.ABANDONED, State.CLOSING})
"""The time for the proof counts."""


ORDER_AGAIN = 0.1
"""Seconds."""


class SandboxState:
    """One sandbox's way from start to end. Only the supervisor's thread changes it; any thread may
    look at `state` and `failure`.

    failure: why it takes no more calls, the first reason; None while there is none.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._build_until = self._orphaned_until = self._proof_until = self._order_at = inf
        self.state = State.STARTING
        self.failure: SandboxError | None = None

    @property
    def deadline(self) -> float:
        """When the present state has lasted too long; infinity for one that may last."""
        return min(
            self._build_until if self.state in _BUILT else inf,
            self._orphaned_until if self.state in _WITHOUT_SPAWNER else inf,
            self._proof_until if self.state in _CLOSED else inf,
            self._order_at if self.state is State.CLOSING else inf,
        )

    @property
    def is_building(self) -> bool:
        """Whether it may still become open, or init may still come."""
        return self.state in _BUILT

    def takes_too_long_to_build(self, now: float) -> bool:
        """Whether the time for building is up."""
        return self.state in _BUILT and now >= self._build_until

    def has_no_init_to_come(self, now: float) -> bool:
        """Whether the spawner has ended so long ago that nothing of it will follow."""
        return self.state in _WITHOUT_SPAWNER and now >= self._orphaned_until

    def has_no_proof_to_come(self, now: float) -> bool:
        """Whether it was closed so long ago that what is still there counts as a survivor."""
        return self.state in _CLOSED and now >= self._proof_until

    def spawner_started(self) -> None:
        """The spawner runs. It may wait for its plan for any time."""
        self._move(State.WAITING)

    def plan_sent(self, now: float) -> None:
        """The spawner has its plan."""
        self._build_until = now + self._deadlines.open
        self._move(State.BUILDING)

    def spawner_ended(self, now: float) -> None:
        """The spawner has ended. Once init has come that changes nothing."""
        if self.state in (State.WAITING, State.BUILDING):
            self._move(State.ORPHANED)
        if self.state in _WITHOUT_SPAWNER:
            self._orphaned_until = now + self._deadlines.orphan

    def init_born(self) -> None:
        """Init has come, perhaps too late to be of use."""
        if self.state is State.ABANDONED:
            self._move(State.CLOSING)
        elif self.state not in (State.FAILED, State.CLOSING):
            self._move(State.INIT_BORN)

    def built(self) -> None:
        """Init is ready for calls, perhaps too late to be of use."""
        if self.state not in (State.FAILED, State.CLOSING):
            self._move(State.OPEN)

    def catch_up(self, until: float) -> None:
        """The whole program stood still: building may last until then at least."""
        self._build_until = max(self._build_until, until)

    def fail(self, failure: SandboxError) -> None:
        """It takes no more calls. While it is being closed that says that no init will come."""
        self.failure = self.failure or failure
        if self.state is State.ABANDONED:
            self._move(State.CLOSING)
        elif self.state not in (State.FAILED, State.CLOSING):
            self._move(State.FAILED)

    def close(self, now: float) -> bool:
        """Somebody wants it to end. False when that has been said before."""
        if self.state in (State.ABANDONED, State.CLOSING):
            return False
        self._proof_until = now + self._deadlines.proof
        self._order_at = now + ORDER_AGAIN
        if self.state is not State.OPEN:  # who waits for it is told this, whatever ends first
            why = "the sandbox cannot be built: it was closed meanwhile"
            self.failure = self.failure or SandboxUnavailable(why)
        without_init = self.state in (State.WAITING, State.BUILDING, State.ORPHANED)
        self._move(State.ABANDONED if without_init else State.CLOSING)
        return True

    def wants_order(self, now: float) -> bool:
        """Whether the order to end is to be given once more. One that was stopped just after the
        last does not follow it."""
        if self.state is not State.CLOSING or now < self._order_at:
            return False
        self._order_at = now + ORDER_AGAIN
        return True

    def closed(self, failure: SandboxError) -> None:
        """Nothing of it will be waited for any more."""
        self.failure = self.failure or failure
        self._move(State.CLOSED)

    def _move(self, state: State) -> None:
        if state not in MOVES[self.state]:
            raise AssertionError(f"no move from {self.state.value} to {state.value}")
        self.state = state
