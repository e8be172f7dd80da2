"""Commands of other threads and of signal handlers to the supervisor's thread, about calls above
all."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf

from sandbox_agent_ipc.cancel_reason import CancelReason

from sandbox_agent_sandbox.host.call_process import CallProcess, InFlight
from sandbox_agent_sandbox.host.deadlines import Deadlines
from sandbox_agent_sandbox.host.descriptors import Descriptor
from sandbox_agent_sandbox.outcome import LimitMet

Command = Callable[[float], None]
"""Takes the time (CLOCK_MONOTONIC seconds) at which it runs."""


class CommandQueue:
    """Commands, run in the order in which they were added.

    Any thread may add commands, and so may signal handlers: deque.append and eventfd_write are safe
    in handlers that interrupt either. Raises OSError when there is no descriptor left.
    """

    def __init__(self) -> None:
        self._commands: deque[Command] = deque()
        self._sleeps_until = inf
        self._event = Descriptor(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))

    @property
    def fd(self) -> int:
        """Readable after `wake`, for epoll."""
        return self._event.number

    def add(self, command: Command, *, wake: bool = True) -> None:
        """Add a command. wake: have it run now; else it runs after the next `wake`."""
        self._commands.append(command)
        if wake:
            self.wake()

    def add_for(self, due: float, command: Command) -> None:
        """Add a command that has to run until then. What wakes the thread anyway runs it too."""
        self.add(command, wake=False)
        self.wake_for(due)

    def wake_for(self, due: float | None) -> None:
        """Wake the thread, unless it wakes by itself before `due`; None for never due."""
        if due is not None and due < self._sleeps_until:
            self.wake()

    def sleep_until(self, next_due: Callable[[], float]) -> float:
        """Until when the thread may sleep; infinity for as long as nothing happens. next_due: when
        it has something to do, as far as it knows.

        Infinity comes first, so that it is woken by those whom `next_due` does not see yet. A time
        that was said stays: the next calls, which are due later, need not wake the thread then.
        """
        before, self._sleeps_until = self._sleeps_until, inf
        due = next_due()
        if time.monotonic() < before < due:
            due = before
        self._sleeps_until = due
        # Added after the last `run`, by somebody who went by the time that was said before.
        return time.monotonic() if self._commands else due

    def wake(self) -> None:
        """Have the commands run."""
        event = self._event  # held while it is written to, see Descriptor
        with suppress(OSError, ValueError):  # ValueError: closed, and no thread is left to wake
            os.eventfd_write(event.number, 1)

    def clear_wake(self) -> None:
        """`fd` is not readable any more, until the next `wake`."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._event.number)

    def run(self) -> None:
        """Run all commands, those included that are added meanwhile."""
        while self._commands:
            self._commands.popleft()(time.monotonic())

    def close(self) -> None:
        """Close the descriptor now, and not when the garbage collector runs."""
        self._event = Descriptor(-1)


class CallOrders:
    """Takes orders about calls from any thread. The supervisor's thread follows them in order.

    Raises OSError when there is no descriptor left.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        self.deadlines = deadlines
        self._commands = CommandQueue()
        self._calls = InFlight()

    def cancel(self, call_id: str, reason: CancelReason) -> bool:
        """Flag one call now, in the calling thread. The ladder follows. Takes no lock.

        Returns False when no call has this id.
        """
        call_process = self._calls.get(call_id)
        if call_process is None:
            return False
        at = time.monotonic()
        # The command is added before the flag is set, so that no command that follows from the
        # flag can overtake it. The wake-up comes after the flag: else the worker that the flag
        # wakes would share its processor with the supervisor's thread.
        self._commands.add(lambda now: call_process.ladder.flag(at), wake=False)
        call_process.flag(reason)
        self._commands.wake()
        return True

    def escalate(self, call_id: str | None = None) -> None:
        """SIGTERM as soon as it is flagged: one call, or every call in flight. Takes no lock."""

        def escalate(now: float) -> None:
            for call_process in self._calls.all():
                if call_id is None or call_process.id == call_id:
                    call_process.ladder.escalate(now)

        self._commands.add(escalate)

    def look_after(self, call_process: CallProcess) -> None:
        """Act on what is due of a call. Nothing, if the thread wakes before."""
        self._commands.wake_for(call_process.ladder.deadline)

    def wait_idle(self, timeout: float | None, call_id: str | None = None) -> bool:
        """Block until no call, or not this one, is in flight. False after `timeout` seconds."""
        return self._calls.wait_until_over(timeout, call_id)

    def finish(self, call_process: CallProcess) -> None:
        """The worker has sent its last message."""
        due = time.monotonic() + self.deadlines.finish
        self._commands.add_for(due, lambda now: call_process.ladder.finish(now))

    def abort(self, call_process: CallProcess, why: str) -> None:
        """The worker broke the protocol: SIGKILL."""

        def abort(now: float) -> None:
            call_process.failure = call_process.failure or why
            call_process.ladder.abort(now)

        self._commands.add(abort)

    def strike(self, met: LimitMet) -> None:
        """SIGKILL to every call in flight, because they met this limit together."""

        def strike(now: float) -> None:
            for call_process in self._calls.all():
                call_process.met.append(met)
                call_process.failure = call_process.failure or f"limit: {met.text}"
                call_process.ladder.abort(now)

        self._commands.add(strike)

    def prolong(self, request: CallProcess, silence: float) -> None:
        """A request's session sent something: the request times out so many seconds from now."""
        self._commands.add(lambda now: request.ladder.prolong(now + silence))
