"""How a run comes to be stopped: one decision, made once, from anywhere.

`stop` may be called by any thread and by signal handlers that interrupted anything at all, itself
included, so there is no lock here. Two rules make the promises about tokens:

- Who pops the one entry of `_undecided` decides how the run ends: stopped, or by itself. A stop
  that comes later changes nothing, so the token of a run that ended by itself stays uncancelled
  for ever. (`list.pop` is one step, also for signal handlers and without a GIL.)
- What the decision means is written down before the token is cancelled, so whoever sees the token
  cancelled can read it.
"""

from __future__ import annotations

import itertools

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.token import RunToken

from sandbox_agent.journal.events import Stamp

_MOMENT = 1.0
"""Seconds. A thread that is about to cancel the token has three lines of Python to go."""


class StopDecision:
    """The decision of one run. token: cancelled when it is stopped. pausing: somebody wants it to
    end after the step that it is at; one assignment, once, by anybody. That is no stop: the token
    is left alone."""

    def __init__(self, deadline: float | None) -> None:
        self.token = RunToken(deadline)
        self.stamp: Stamp | None = None
        self.why = ""
        self.exit_code: int | None = None
        self.pausing = False
        self._undecided: list[None] = [None]
        self._interrupts = itertools.count(1)

    def stop(self, reason: CancelReason, why: str = "", exit_code: int | None = None) -> bool:
        """Stop the run, unless its end is decided. Returns whether this call decided it."""
        try:
            self._undecided.pop()
        except IndexError:
            return False
        try:
            self.stamp, self.why, self.exit_code = Stamp.now(), why, exit_code
        finally:
            self.token.cancel(reason)
        return True

    def count_interrupt(self) -> int:
        """1 for the first interrupt of the run, 2 for the second."""
        return next(self._interrupts)

    def let_end(self) -> CancelReason | None:
        """The run is about to end by itself. None: it may, and cannot be stopped any more. A
        reason: it was stopped before."""
        try:
            self._undecided.pop()
        except IndexError:
            # Another thread may be between its pop and the cancellation; it is there in a moment,
            # unless a signal handler's exception threw it out just there.
            if not self.token.wait(_MOMENT):
                self.token.cancel(CancelReason.INTERRUPT)
            return self.token.reason
        return None
