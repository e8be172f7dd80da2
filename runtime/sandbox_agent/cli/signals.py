"""INT, TERM, HUP and TSTP on the command line, and the death of the parent process.

One state machine per process, one table of legal moves. A signal means something else in each
state, and the first signal decides the exit code.

    before_run -> recording ----> running <-> frozen ----> ended
        |             |              ^
        v             v              |
    interrupted -> waiting ----------/      (every state but frozen may go straight to ended)

before_run: a signal ends the command by `Stopped`.
interrupted: `Stopped` was raised, or is raised at the end of a `Later` block.
recording: the record of the run is about to be begun. A signal waits for the run.
waiting: the same, and a signal has come.
running: a signal calls the conversation's `interrupt()`, which takes no lock, so the handler may
run between any two instructions.
frozen: Ctrl-Z (TSTP) stops the tools together with this process, and `fg` continues both. The
tools are in other process groups, so the terminal alone would stop only this process.
ended: the end is recorded. A signal changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from enum import Enum
from types import FrameType, TracebackType
from typing import Protocol

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INSIST_SECONDS = 1.0
"""Before a run, a signal that comes this long after the first one kills the process. An earlier one
counts as the same event: a process group's signal may arrive a second time from a parent process
that passes it on."""


class State(Enum):
    """What a signal meets. See the module."""

    BEFORE_RUN = "before_run"
    INTERRUPTED = "interrupted"
    RECORDING = "recording"
    WAITING = "waiting"
    RUNNING = "running"
    FROZEN = "frozen"
    ENDED = "ended"


MOVES: dict[State, frozenset[State]] = {
    State.BEFORE_RUN: frozenset({State.INTERRUPTED, State.RECORDING, State.ENDED}),
    # A destructor swallows every exception, Stopped too: then the command goes on.
    State.INTERRUPTED: frozenset({State.WAITING, State.ENDED}),
    State.RECORDING: frozenset({State.WAITING, State.RUNNING, State.ENDED}),
    State.WAITING: frozenset({State.RUNNING, State.ENDED}),
    State.RUNNING: frozenset({State.FROZEN, State.ENDED}),
    State.FROZEN: frozenset({State.RUNNING}),
    State.ENDED: frozenset(),
}


class Freezer(Protocol):
    """What can be stopped and continued as a whole: a conversation."""

    def freeze(self) -> object:
        """Stop it. Returns within about a second."""

    def thaw(self) -> object:
        """Continue it."""


class Stopped(BaseException):
    """A signal came before a run. Not an Exception, so that no `except Exception` swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class Later:
    """A `with` block that a signal before a run does not interrupt: `Stopped` is raised at its end.

    Inside the block the exception would leave a lock held, a thread half started, or a module half
    imported. Main thread only.

    pending: the signal that waits for the end of the block.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.pending: int | None = None

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.depth -= 1
        signum = self.pending
        if signum is not None and not self.depth:
            self.pending = None
            raise Stopped(signum)


class Signals:
    """The signal handlers of this process. Only the main thread moves from state to state.

    first: the signal that decides the exit code, or None. late: a signal that came after the end,
    or None: whoever waits for a reader then gives up. later: see `Later`. parent: the pid of
    the parent process, taken early: after its death getppid(2) gives another one.
    """

    def __init__(self) -> None:
        self.state = State.BEFORE_RUN
        self.first: int | None = None
        self.late: int | None = None
        self.later = Later()
        self.parent = os.getppid()
        self._interrupt: Callable[[int], None] | None = None
        self._freezer: Freezer | None = None
        self._received = 0  # signals, the death of the parent not counted
        self._first_event: list[None] = [None]
        self._first_at = 0.0

    def install(self) -> None:
        """Handles INT and TERM even when they are inherited as ignored: a script's background jobs
        inherit INT so. An ignored HUP stays ignored, which is what nohup(1) asks for. Unblocks all
        three, because a signal mask is inherited too."""
        for signum in HANDLED:
            if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:
                # ValueError: an embedding program calls `main` in another thread than the main one.
                with contextlib.suppress(ValueError):
                    signal.signal(signum, self._handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)

    def check(self) -> None:
        """Raises Stopped if a signal has come and no run has answered it. Call it after catching
        another exception: C code that calls Python may have turned Stopped into that one."""
        if self.state in (State.INTERRUPTED, State.WAITING) and self.first is not None:
            raise Stopped(self.first)

    def hold(self) -> None:
        """From now on a signal waits for `attach`: the record of the run is about to be begun, and
        only the run itself can complete it. Before that the files that a task names are read, and
        their disk may hang: a signal after INSIST_SECONDS ends the command even so."""
        self._move(State.RECORDING if self.state is State.BEFORE_RUN else State.WAITING)

    def attach(self, interrupt: Callable[[int], None], freezer: Freezer) -> None:
        """From now on a signal calls `interrupt(signum)`; at once, if one has come already.

        freezer: what Ctrl-Z freezes and `fg` thaws.
        """
        self._interrupt, self._freezer = interrupt, freezer
        self._move(State.RUNNING)
        if signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL:  # not in a shell without jobs
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGTSTP, self._freeze)
        if self.first is not None:
            interrupt(self.first)

    def end(self) -> None:
        """The end is recorded: from now on a signal only ends the wait for a reader. May be called
        twice."""
        self._move(State.ENDED)

    def close(self) -> None:
        """Nothing is left to wait for, so signals are ignored. They are not handled: when the
        interpreter exits, it restores the default action of handled signals, and a late signal
        would then kill this process."""
        for signum in HANDLED:
            if signal.getsignal(signum) == self._handle:
                with contextlib.suppress(ValueError):
                    signal.signal(signum, signal.SIG_IGN)

    def strike(self, signum: int) -> None:
        """Acts as if the signal had come. For another thread; before a run it waits for the run.

        This call and the first signal are one event: what ends a process group reaches the parent
        and this process, and one event must leave the calls their whole grace period.
        """
        if self.state is State.ENDED:
            return
        if self.first is None:
            self.first = signum
        if self._is_first_event():
            self._deliver(signum)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.state is State.ENDED:
            self.late = signum
            return
        if self.first is None:
            self.first = signum
        self._received += 1
        counts = self._received > 1 or self._is_first_event()
        match self.state:
            case State.BEFORE_RUN:
                self._first_at = time.monotonic()
                self._move(State.INTERRUPTED)
                if not self.later.depth:
                    raise Stopped(self.first)
                self.later.pending = self.first
            case State.RECORDING:
                self._first_at = time.monotonic()
                self._move(State.WAITING)
            case State.INTERRUPTED | State.WAITING:
                if time.monotonic() - self._first_at > INSIST_SECONDS:
                    signal.signal(signum, signal.SIG_DFL)
                    os.kill(os.getpid(), signum)
            case _:
                if counts:
                    self._deliver(signum)

    def _is_first_event(self) -> bool:
        """Whether neither a signal nor `strike` has come before. One step, list.pop, because both
        may come here at the same time."""
        try:
            self._first_event.pop()
        except IndexError:
            return False
        return True

    def _deliver(self, signum: int) -> None:
        """Interrupts the run, if there is one. `attach` delivers what came earlier."""
        if self._interrupt is not None:
            self._interrupt(signum)

    def _freeze(self, signum: int, frame: FrameType | None) -> None:
        # A second Ctrl-Z during freeze() must not call it again: it holds locks.
        if self._freezer is None or self.state is not State.RUNNING:
            return
        self._move(State.FROZEN)
        try:
            self._freezer.freeze()
            os.kill(os.getpid(), signal.SIGSTOP)
            # SIGCONT continues here.
            self._freezer.thaw()
        finally:
            self._move(State.RUNNING)

    def _move(self, to: State) -> None:
        # A handler may run between any two steps here and make the same move.
        if to is not self.state:
            if to not in MOVES[self.state]:
                raise AssertionError(f"no move from {self.state.value} to {to.value}")
            self.state = to
