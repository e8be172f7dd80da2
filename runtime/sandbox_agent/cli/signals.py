"""INT, TERM, HUP and TSTP on the command line, and the death of the parent process.

The kernel gives a signal to the main thread, unless that thread blocks it. A main thread inside a
write(2) to a disk that hangs acts on nothing until the disk is back. So every thread blocks these
signals, and one thread takes them: sigwaitinfo(2). It waits for no disk and no import.

One state machine per process, one table of legal moves. A signal means something else in each
state, and the first signal decides the exit code.

    before_run -> recording -> running <-> frozen        leaving
        |           |   |        ^  |                       ^
        |           |   v        |  v                       |
        |           | waiting ---/ ended -> hurried --------/
        v           v   |            ^
     leaving        -------> ended   |      (before_run may go straight to ended)

before_run: a signal ends the command. Nothing is recorded yet.
recording: the record of the run is about to be begun. A signal waits for the run.
waiting: the same, and a signal has come. Another one after INSIST_SECONDS ends the command.
running: a signal calls the conversation's `interrupt()`, which takes no lock.
frozen: Ctrl-Z (TSTP) stops the tools together with this process, and `fg` continues both. The
tools are in other process groups, so the terminal alone would stop only this process.
ended: the end is known. A signal changes no exit code.
hurried: a signal has come after the end. Whoever waits for something gives up (see `late`).
leaving: the thread ends the process, whatever the main thread is doing.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from math import inf
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from sandbox_agent_ipc.shortage import start_thread

from sandbox_agent.exit_codes import by_signal

if TYPE_CHECKING:
    from typing import Protocol

    class Freezer(Protocol):
        """What can be stopped and continued as a whole: a conversation."""

        def freeze(self) -> object:
            """Stop it. Returns within about a second."""

        def thaw(self) -> object:
            """Continue it."""


HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INSIST_SECONDS = 1.0
"""Before a run, a signal that comes this long after the first one ends the command. An earlier one
counts as the same event: a process group's signal may arrive a second time from a parent process
that passes it on."""
LEAVE_SECONDS = 2.0
"""What the main thread still has after a signal that came after the end."""
_FOREVER = 365 * 86400.0
_SI_KERNEL = 0x80
"""The kernel has sent the signal: sigaction(2)."""
_CHILDREN_SECONDS = 0.3
"""How long a helper process, such as git, may take to end by SIGTERM."""


class State(Enum):
    """What a signal meets. See the module."""

    BEFORE_RUN = "before_run"
    RECORDING = "recording"
    WAITING = "waiting"
    RUNNING = "running"
    FROZEN = "frozen"
    ENDED = "ended"
    HURRIED = "hurried"
    LEAVING = "leaving"


MOVES: dict[State, frozenset[State]] = {
    State.BEFORE_RUN: frozenset({State.RECORDING, State.ENDED, State.LEAVING}),
    State.RECORDING: frozenset({State.WAITING, State.RUNNING, State.ENDED}),
    State.WAITING: frozenset({State.RUNNING, State.ENDED, State.LEAVING}),
    State.RUNNING: frozenset({State.FROZEN, State.ENDED}),
    State.FROZEN: frozenset({State.RUNNING}),
    State.ENDED: frozenset({State.HURRIED}),
    State.HURRIED: frozenset({State.LEAVING}),
    State.LEAVING: frozenset(),
}


class Signals:
    """The signals of this process. Every move from state to state is made under one lock.

    first: the signal that decides the exit code, or None. late: a signal that came after the end,
    or None. received: how many signals came; the ends of the parent and of the terminal are not
    counted. parent: the pid of the parent process, taken early: after its death getppid(2) gives
    another one. on_leave: called before the thread ends the process, with what is to be said, which
    may be "". It must return soon, and must not need the main thread.
    """

    def __init__(self) -> None:
        self.state = State.BEFORE_RUN
        self.first: int | None = None
        self.late: int | None = None
        self.received = 0
        self.parent = os.getppid()
        self.on_leave: Callable[[str], object] = _nothing
        self._code = 0
        self._lock = threading.Lock()
        self._taken = {signal.SIGINT, signal.SIGTERM}
        self._thread: int | None = None
        self._closed = False
        self._interrupt: Callable[[int], bool] | None = None
        self._freezer: Freezer | None = None
        self._struck = False  # the parent died before the first signal came
        self._delivered = False
        self._first_at = 0.0
        self._leave_at = inf

    def install(self) -> None:
        """Takes INT and TERM even when they are inherited as ignored: a script's background jobs
        inherit INT so. An ignored HUP stays ignored, which is what nohup(1) asks for; so does an
        ignored TSTP, of a shell without jobs. Call it before any other thread starts: threads
        inherit the mask.

        SIGCHLD is inherited as ignored, too, and then waitpid(2) gives no status.

        Does nothing outside the main thread: there the signals are the embedding program's. Raises
        RuntimeError if no thread can be started.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._taken)
        try:
            if threading.current_thread() is not threading.main_thread():
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                return
            for number in (signal.SIGHUP, signal.SIGTSTP):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._taken.add(number)
            signal.pthread_sigmask(signal.SIG_BLOCK, self._taken)
            thread = threading.Thread(target=self._main, name="sandbox-agent signals", daemon=True)
            start_thread(thread)
        except RuntimeError:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            raise
        self._thread = thread.ident
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in self._taken:
            # For threads of an embedding program, which do not block it. A program that this
            # process starts has the default disposition.
            signal.signal(number, self._pass_on)

    def hold(self) -> None:
        """From now on a signal waits for `attach`: the record of the run is about to be begun, and
        only the run itself can complete it."""
        with self._lock:
            self._move(State.RECORDING)

    def attach(self, interrupt: Callable[[int], bool], freezer: Freezer) -> None:
        """From now on a signal calls `interrupt(signum)`; at once, if one has come already.

        interrupt: returns whether there was a run to interrupt. If not, `catch_up` calls it again.
        freezer: what Ctrl-Z freezes and `fg` thaws.
        """
        with self._lock:
            self._interrupt, self._freezer = interrupt, freezer
            self._move(State.RUNNING)
        self.catch_up()

    def catch_up(self) -> None:
        """Delivers a signal that came before there was a run to interrupt."""
        with self._lock:
            if self.state is State.RUNNING and self.first is not None and not self._delivered:
                self._deliver(self.first)

    def end(self, code: int) -> None:
        """The end is known: from now on a signal changes no exit code, but cuts waiting short.

        code: the exit code. May be called again, when more is known.
        """
        with self._lock:
            self._code = code
            if self.state is not State.HURRIED:
                self._move(State.ENDED)

    def close(self) -> None:
        """Nothing is left to be said or to wait for: the process ends by itself. The signals stay
        blocked, so that a late one does not kill it."""
        with self._lock:
            self._closed = True
        if self._thread is not None:
            signal.pthread_kill(self._thread, signal.SIGINT)

    def strike(self, signum: int) -> None:
        """Acts as if the signal had come. For another thread; before a run it waits for the run.

        This call and the first signal are one event: what ends a process group reaches the parent
        and this process, and one event must leave the calls their whole grace period.
        """
        with self._lock:
            self._strike(signum)

    def _strike(self, signum: int) -> None:
        if not self.received and not self._struck:
            self._struck = True
            self._take(signum)

    # --- the thread --------------------------------------------------------------------------

    def _main(self) -> None:
        while True:
            wait = min(_FOREVER, self._leave_at - time.monotonic())
            info = signal.sigtimedwait(self._taken, max(0.0, wait))
            with self._lock:
                if self._closed:
                    return
                try:
                    if info is None and self.state is State.HURRIED:
                        assert self.late is not None
                        name = signal.Signals(self.late).name
                        words = f"{name} ended the command before all was said"
                        # A success that could not be said in full is none.
                        self._leave(self._code or by_signal(self.late), words)
                    elif info is not None and info.si_signo == signal.SIGTSTP:
                        self._stop()
                    elif info is not None and _is_hang_up(info):
                        self._strike(info.si_signo)
                    elif info is not None:
                        self.received += 1
                        # The first signal and the death of the parent are one event.
                        if self.received > 1 or not self._struck:
                            self._take(info.si_signo)
                except Exception as error:
                    warnings.warn(f"a signal was not acted on: {error!r}", stacklevel=1)

    def _pass_on(self, signum: int, frame: FrameType | None) -> None:
        """A Python handler, in the main thread: another thread, which did not block the signal,
        got it."""
        if self._thread is not None and not self._closed:
            with suppress(ProcessLookupError):
                signal.pthread_kill(self._thread, signum)

    def _take(self, signum: int) -> None:
        now = time.monotonic()
        if self.first is None and self.state not in (State.ENDED, State.HURRIED):
            self.first, self._first_at = signum, now
        match self.state:
            case State.BEFORE_RUN:
                self._leave(by_signal(signum))
            case State.RECORDING:
                self._move(State.WAITING)
            case State.WAITING:
                if self.first is not None and now - self._first_at > INSIST_SECONDS:
                    self._leave(by_signal(self.first))
            case State.RUNNING:
                self._deliver(signum)
            case State.ENDED:
                self.late, self._leave_at = signum, now + LEAVE_SECONDS
                self._move(State.HURRIED)

    def _deliver(self, signum: int) -> None:
        """Interrupts the run, if there is one. `catch_up` delivers what came earlier."""
        if self._interrupt is not None:
            # What came before the run decides the exit code.
            known = signum if self._delivered or self.first is None else self.first
            self._delivered = self._interrupt(known) or self._delivered

    def _stop(self) -> None:
        """Ctrl-Z. A second one meanwhile has no effect: SIGCONT removes it. signal(7)"""
        freezer = self._freezer if self.state is State.RUNNING else None
        if freezer is None:
            _stop_this_process()
            return
        self._move(State.FROZEN)
        try:
            freezer.freeze()
            _stop_this_process()
            freezer.thaw()
        finally:
            self._move(State.RUNNING)

    def _leave(self, code: int, words: str = "") -> NoReturn:
        """Ends the process. The main thread may hang, and if not it waits for the lock at its next
        move. Only a thread in uninterruptible sleep delays the end: the kernel waits for it."""
        self._move(State.LEAVING)
        try:
            self.on_leave(words)
            _end_children()
        finally:
            os._exit(code)

    def _move(self, to: State) -> None:
        if to is not self.state:
            if to not in MOVES[self.state]:
                raise AssertionError(f"no move from {self.state.value} to {to.value}")
            self.state = to


@contextmanager
def nothing_blocked() -> Iterator[None]:
    """While this is entered, the calling thread blocks no signal: a program that it starts inherits
    that. A signal that comes meanwhile reaches the thread of `Signals` all the same."""
    before = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_hang_up(info: signal.struct_siginfo) -> bool:
    """Whether the terminal is gone: the kernel sends this SIGHUP, also when the leader of the
    session ends by the Ctrl-C that this process got too. So it is no second wish to stop."""
    return info.si_signo == signal.SIGHUP and info.si_code == _SI_KERNEL


def _nothing(words: str) -> None:
    pass


def _nothing_to_end() -> None:
    pass


def _stop_this_process() -> None:
    """Stops all threads; returns when SIGCONT has come. To this very thread, because a signal to
    the process may take effect in another thread, a moment after kill(2) has returned here."""
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def _end_children() -> None:
    """Ends the direct children of this process: helpers such as git. What a sandbox consists of
    ends with this process."""
    # Not imported here: where it was not, there is no spawner. Perhaps it is half imported.
    early = sys.modules.get("sandbox_agent_sandbox.host.spawner.early")
    getattr(early, "end_early", _nothing_to_end)()
    ends = []
    for pid in _children() - getattr(early, "spawners", set()):
        with suppress(OSError):
            end = os.pidfd_open(pid)
            ends.append(end)
            if pid in _children():  # Else the number may be another process's by now.
                signal.pidfd_send_signal(end, signal.SIGTERM)
    until = time.monotonic() + _CHILDREN_SECONDS
    for end in ends:
        poller = select.poll()
        poller.register(end, select.POLLIN)
        if not poller.poll(max(0.0, until - time.monotonic()) * 1000):
            with suppress(OSError):
                signal.pidfd_send_signal(end, signal.SIGKILL)


def _children() -> set[int]:
    """proc(5): /proc/PID/task/TID/children. Empty where the kernel does not list children."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with suppress(OSError), open(f"/proc/self/task/{thread}/children") as file:
            found.update(map(int, file.read().split()))
    return found
