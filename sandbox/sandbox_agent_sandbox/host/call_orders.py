"""What other threads and signal handlers order about calls in flight."""

from __future__ import annotations

import time

from sandbox_agent_ipc.cancel_reason import CancelReason

from sandbox_agent_sandbox.host.call_process import CallProcess, InFlight
from sandbox_agent_sandbox.host.command_queue import CommandQueue
from sandbox_agent_sandbox.host.deadlines import Deadlines
from sandbox_agent_sandbox.outcome import LimitMet


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
