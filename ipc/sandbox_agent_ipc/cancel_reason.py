"""Why something was cancelled."""

from __future__ import annotations

from enum import StrEnum


class CancelReason(StrEnum):
    """Why something was cancelled. The first reason wins and stays."""

    INTERRUPT = "interrupt"
    """A signal or `interrupt()`: the whole run is to stop."""

    CANCEL_CALL = "cancel_call"
    """`cancel_call(id)`: this call alone."""

    TIMEOUT = "timeout"
    """The call's own time was up."""

    BUDGET = "budget"
    """A budget of the run was spent."""

    CANCELLED = "cancelled"
    """The task that awaited the work was cancelled (`asyncio.Task.cancel`)."""

    CLOSED = "closed"
    """What it belonged to was closed."""

    FAILED = "failed"
    """Another part of the run failed, so this part is pointless."""

    @property
    def code(self) -> int:
        """1 to 255: the reason as a byte on the cancel board. Codes are never reused."""
        return _CODES[self]

    @classmethod
    def from_code(cls, code: int) -> CancelReason:
        """The reason of a code; FAILED for a code of a later version."""
        return _REASONS.get(code, cls.FAILED)


_CODES = {
    CancelReason.INTERRUPT: 1,
    CancelReason.CANCEL_CALL: 2,
    CancelReason.TIMEOUT: 3,
    CancelReason.BUDGET: 4,
    CancelReason.CANCELLED: 5,
    CancelReason.CLOSED: 6,
    CancelReason.FAILED: 7,
}
_REASONS = {code: reason for reason, code in _CODES.items()}
