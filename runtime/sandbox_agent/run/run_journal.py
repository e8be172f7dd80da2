"""What one run writes into the journal, and how the run ends when that fails."""

from __future__ import annotations

import errno
import threading
from typing import Any, TypeVar

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.shortage import shortage_of
from sandbox_agent_sandbox.errors import SandboxError

from sandbox_agent.errors import NotRecorded
from sandbox_agent.journal.events import AnyEvent, CancelRequested, Ended, SegmentEnded, Stamp
from sandbox_agent.journal.recorder import Recorder
from sandbox_agent.run.stop_decision import StopDecision

E = TypeVar("E", bound=AnyEvent)


def not_written(what: str, error: OSError) -> NotRecorded:
    """The end of a run of which `what` cannot be written."""
    short = None if error.errno in _FULL else shortage_of(error)
    why = str(short or error.strerror or error)
    hint = "; make room on that disk, and resume" if error.errno in _FULL else ""
    return NotRecorded(f"{what} cannot be written: {why}{hint}")


_FULL = (errno.ENOSPC, errno.EDQUOT)


class RunJournal:
    """Records the events of one run. A journal that cannot be written stops the run.

    run_over: set when the run is over; from then on nothing is recorded. first_error: the first
    error that stopped the run, None while there is none. cancel_stamps: when `cancel_call` was
    asked for, by call, until that is recorded. It is set before the token is cancelled, so that
    the end which follows cannot be recorded first.
    """

    def __init__(self, recorder: Recorder, decision: StopDecision) -> None:
        self.decision = decision
        self.state = recorder.state
        self.run_over = threading.Event()
        self.first_error: BaseException | None = None
        self._recorder = recorder
        self.cancel_stamps: dict[str, Stamp] = {}
        self._stop_is_recorded = False

    def record(self, kind: type[E], /, **fields: Any) -> E | None:
        """Write an event and return it. Returns None if that failed, which stops the run, and None
        once the run is over: tasks that were left behind have nothing more to record."""
        if self.run_over.is_set():
            return None
        if kind is Ended:
            self.record_cancelled_call(fields["call"])
        try:
            event = self._recorder.add(kind, **fields)
        except OSError as error:
            self.fail(not_written("the journal", error))
            return None
        if self.first_error is None and (shortage := self._recorder.shortage) is not None:
            # The event is written, and there is room for the end: now is the time to end.
            self.fail(not_written("the journal", shortage))
        return event

    def record_end(self, **fields: Any) -> SegmentEnded:
        """Write the end of the run. Raises OSError if it is not written; then it is no end."""
        return self._recorder.add_if_written(SegmentEnded, **fields)

    def end_open_calls(self, call_id: str | None = None) -> None:
        """Record an end for each call that has none, or for this one."""
        self._recorder.end_open_calls(self.record, call_id)

    def fail(self, error: BaseException, why: str = "") -> None:
        """Stop the run because of an error. why: what its end says, instead of the error's text."""
        if self.first_error is None:
            self.first_error = error
            if isinstance(error, OSError | SandboxError | NotRecorded):
                # The error lives as long as the result does. Its frames would keep the sandbox's
                # descriptors open for that long. Only a bug needs the frames.
                error.with_traceback(None)
        self.decision.stop(CancelReason.FAILED, why or str(error))

    def record_stop(self) -> None:
        """Write `cancel_requested` for the run, once, if it was stopped. The decision itself may
        come from a signal handler, which must not write files."""
        reason = self.decision.token.reason
        if reason is not None and not self._stop_is_recorded and not self.run_over.is_set():
            self._stop_is_recorded = True
            self.record(CancelRequested, stamp=self.decision.stamp, reason=reason.value)

    def record_cancelled_call(self, call_id: str) -> None:
        """Write `cancel_requested` for one call, once, if `cancel_stamps` has it and the call has
        not ended."""
        stamp = self.cancel_stamps.pop(call_id, None)
        call = self.state.calls.get(call_id)
        if stamp is not None and call is not None and call.ended is None:
            reason = CancelReason.CANCEL_CALL.value
            self.record(CancelRequested, stamp=stamp, reason=reason, call=call_id)
