"""Whether a run is stopped or ends by itself: one decision, made once, from any thread.

How "stop" travels from its cause to a tool:

1. *Stop decision* (here, one per run). Its causes are an interrupt, a spent budget, a cancelled
   task, `close()`, and something that failed. The first cause decides; later ones change nothing.
2. *Run token* (`StopDecision.token`). Cancelled by the decision, with the reason. The host's own
   code waits on it: the loop of the run, the model, the opening sandbox.
3. *Call token* (`CallGroup`, one per call). A child of the run token: cancelled with it, for its
   reason, or alone by `cancel_call`.
4. *Cancel board* (the sandbox's, one slot per call). The host writes the slot when the call token
   is cancelled, or when the call's own time is up. The tool reads it through its `CallToken`.
5. *Ladder* (the sandbox's, one per call). From the same moment the call has the grace period, then
   gets SIGTERM, then SIGKILL.

The journal gets `cancel_requested` from the event loop, soon after the decision: a signal handler
must not write files.

`stop` may be called by any thread, and by a signal handler that interrupted anything, `stop`
included. So it takes no lock. Two rules keep the promises about tokens:

- `_undecided` holds one entry, and the call that pops it decides. `list.pop` is atomic, also for
  signal handlers and without a GIL: exactly one call gets the entry. If the natural end pops it,
  every later stop finds the list empty and leaves the token alone. So the token of a run that
  ended by itself is never cancelled.
- The decision's details are stored before the token is cancelled. So code that sees the token
  cancelled can read them.
"""

from __future__ import annotations

import itertools

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.token import RunToken

from sandbox_agent.journal.events import Stamp

_MOMENT = 1.0
"""Seconds. A thread that has popped the entry cancels the token three lines of Python later."""


class StopDecision:
    """The decision of one run.

    token: the run token. why, exit_code, stamp: the details of the stop that decided; stamp is None
    while nothing did. pause_requested: the run is to end after its current step. Any thread may set
    it. A pause is no stop, so it leaves the token alone.
    """

    def __init__(self, deadline: float | None) -> None:
        self.token = RunToken(deadline)
        self.stamp: Stamp | None = None
        self.why = ""
        self.exit_code: int | None = None
        self.pause_requested = False
        self._undecided: list[None] = [None]
        self._interrupts = itertools.count(1)

    def stop(self, reason: CancelReason, why: str = "", exit_code: int | None = None) -> bool:
        """Stop the run, unless its end is decided. Returns whether this call decided it.

        exit_code: of the run, instead of the usual one.
        """
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
        """Returns 1 for the first interrupt of the run, 2 for the second, and so on."""
        return next(self._interrupts)

    def end_naturally(self) -> CancelReason | None:
        """Decide that the run ends by itself: from now on nothing can stop it. Returns None.

        If the run was stopped before, returns the reason instead.
        """
        try:
            self._undecided.pop()
        except IndexError:
            # Another thread may be between its pop and the cancellation, which then follows at
            # once. Only an exception of a signal handler just there can prevent it.
            if not self.token.wait(_MOMENT):
                self.token.cancel(CancelReason.INTERRUPT)
            return self.token.reason
        return None
