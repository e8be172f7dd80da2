"""The ladder: how a call is ended. Module `process` sends the signals.

One state machine for each call, with one table of legal moves. It has no thread and no clock of its
own: the supervisor's thread calls it with the time (CLOCK_MONOTONIC seconds) and with each event.

    starting -> running -> finishing ----------------> ended      the tool ended by itself
         \\         \\-> flagged -> term -> kill -----> ended      it was cancelled
          \\------------/

finishing: the worker has answered, and the call's init is dismissed, see `Process.dismiss`.
flagged: the slot's word has changed and the worker is woken; a shell command's group gets SIGINT.
term: SIGTERM to the call's init, which passes it on to all of its namespace, then SIGCONT.
kill: the call's init is told to SIGKILL all of its namespace; then the kernel kills the namespace
with init, which gets SIGKILL itself if that takes long.
ended: the pidfd proves that the namespace is empty, or that takes too long and the survivors are
named.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from sandbox_agent_sandbox.host.deadlines import Deadlines
from sandbox_agent_sandbox.outcome import Rung

if TYPE_CHECKING:
    from typing import Protocol

    class Target(Protocol):
        """The processes that the ladder signals."""

        def prepare(self) -> None:
            """Get ready to signal. It may take some milliseconds, of which the grace period has
            enough."""

        def terminate(self) -> None:
            """Deliver SIGTERM; nothing when there is no process yet."""

        def kill(self) -> None:
            """End all processes of the call by SIGKILL."""

        def insist(self) -> None:
            """Deliver SIGKILL itself, to the process that must die so that the call ends."""


class State(Enum):
    """Where a call is on the ladder."""

    STARTING = "starting"
    RUNNING = "running"
    FINISHING = "finishing"
    FLAGGED = "flagged"
    TERM = "term"
    KILL = "kill"
    ENDED = "ended"


MOVES: dict[State, frozenset[State]] = {
    State.STARTING: frozenset({State.RUNNING, State.FLAGGED, State.KILL, State.ENDED}),
    State.RUNNING: frozenset({State.FINISHING, State.FLAGGED, State.KILL, State.ENDED}),
    State.FINISHING: frozenset({State.KILL, State.ENDED}),
    State.FLAGGED: frozenset({State.TERM, State.KILL, State.ENDED}),
    State.TERM: frozenset({State.KILL, State.ENDED}),
    State.KILL: frozenset({State.ENDED}),
    State.ENDED: frozenset(),
}


class Ladder:
    """The ladder of one call. Not thread-safe: only the supervisor's thread uses it.

    grace, term: seconds from the flag to SIGTERM, and from there to SIGKILL. now: CLOCK_MONOTONIC
    seconds.
    """

    def __init__(
        self, target: Target, *, grace: float, term: float, deadlines: Deadlines, now: float
    ) -> None:
        self._target = target
        self._grace = grace
        self._term = term
        self._deadlines = deadlines
        self._next: float | None = now + deadlines.start
        self._timeout: float | None = None
        self.hurried = False
        """Whether it has no grace period, see `escalate`."""
        self._insisted = False
        self.state = State.STARTING
        self.born = False
        self.flagged_at: float | None = None
        self.rungs: dict[Rung, float] = {}
        self.ended_at: float | None = None
        self.proven = False

    @property
    def rung(self) -> Rung | None:
        """The last rung taken because of a flag; None when the call was not flagged."""
        return next(reversed(self.rungs), None)

    @property
    def deadline(self) -> float | None:
        """When `tick` is due next, or None."""
        times = [time for time in (self._next, self._timeout) if time is not None]
        return min(times, default=None)

    @property
    def times_out(self) -> float | None:
        """When the call's own time is up; None for no limit, and once the call is ending."""
        return self._timeout

    def birth(self, now: float) -> None:
        """The call's init exists now. A rung that was taken before is taken again."""
        self.born = True
        if self.state is State.STARTING:
            self._move(State.RUNNING)
            self._next = None
        elif self.state is State.TERM:
            self._target.terminate()
        elif self.state is State.KILL:
            self._target.kill()

    def time_out_at(self, when: float | None) -> None:
        """Set the end of the call's own time."""
        self._timeout = when

    def prolong(self, when: float) -> None:
        """Move the end of the call's own time, unless it has none or the call is ending."""
        if self._timeout is not None:
            self._timeout = when

    def finish(self, now: float) -> None:
        """The worker's last message has come: it should exit in a moment."""
        if self.state in (State.STARTING, State.RUNNING):
            if self.state is State.STARTING:
                self._move(State.RUNNING)
            self._move(State.FINISHING)
            self._next = now + self._deadlines.finish
            self._timeout = None

    def flag(self, now: float) -> None:
        """The cancel flag is set since `now`. Idempotent; no effect on a call that is ending."""
        if self.state in (State.STARTING, State.RUNNING):
            self._move(State.FLAGGED)
            self.flagged_at = now
            self.rungs[Rung.FLAG] = now
            self._next = now if self.hurried else now + self._grace
            self._timeout = None
            self._target.prepare()

    def escalate(self, now: float) -> None:
        """A second interrupt: skip the rest of the grace period. A third one changes nothing.

        Commands of two threads that interrupt at once come in either order. A second interrupt that
        comes before the flag takes effect with it.
        """
        self.hurried = True
        if self.state is State.FLAGGED:
            self._take_term(now)

    def abort(self, now: float) -> None:
        """SIGKILL at once: the worker broke the protocol, or its session is given up."""
        if self.state not in (State.KILL, State.ENDED):
            self._take_kill(now)

    def tick(self, now: float) -> bool:
        """Take the rungs that are due. True when the wait for proof is over without it."""
        while self._next is not None and now >= self._next:
            if self.state is State.FLAGGED:
                self._take_term(now)
            elif self.state is State.KILL and not self._insisted:
                self._insisted = True
                self._next += self._deadlines.proof
                self._target.insist()
            elif self.state is State.KILL:
                self._next = None
                return True
            else:
                self._take_kill(now)
        return False

    def shift(self, seconds: float) -> None:
        """All processes were stopped for so many seconds: everything that is due comes later."""
        if self._next is not None:
            self._next += seconds
        if self._timeout is not None:
            self._timeout += seconds

    def end(self, now: float, *, proven: bool) -> None:
        """The namespace is empty (`proven`), or the wait for that is over."""
        self._move(State.ENDED)
        self.ended_at = now
        self.proven = proven
        self._next = self._timeout = None

    def rungs_ms(self) -> dict[str, float]:
        """Milliseconds from the flag to each rung and to the end; empty when never flagged."""
        if self.flagged_at is None:
            return {}
        start = self.flagged_at
        times = {rung.value: time for rung, time in self.rungs.items()}
        if self.ended_at is not None:
            times["ended"] = self.ended_at
        return {name: round((time - start) * 1000, 3) for name, time in times.items()}

    def _take_term(self, now: float) -> None:
        self._move(State.TERM)
        self.rungs[Rung.TERM] = now
        self._next = now + self._term
        self._target.terminate()

    def _take_kill(self, now: float) -> None:
        flagged = self.flagged_at is not None
        self._move(State.KILL)
        if flagged:
            self.rungs[Rung.KILL] = now
        self._next = now + self._deadlines.order
        self._timeout = None
        self._target.kill()

    def _move(self, state: State) -> None:
        if state not in MOVES[self.state]:
            raise AssertionError(f"no move from {self.state.value} to {state.value}")
        self.state = state
