"""Why something was cancelled, and how the cancel board says it.

The state word of one slot of the board is generation << 16 | reason << 8 | flags. A word is live
for exactly one call. Cancelling changes it, and releasing the slot changes it again. The generation
only grows, so no word comes back: a call is cancelled when its slot's word is not its own live word
any more.
"""

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

LIVE = 1
"""Flag: a call has claimed the slot."""

CANCELLED = 2
"""Flag: that call is to stop; the reason byte says why."""


def idle_word(generation: int) -> int:
    """The word of a slot that no call has claimed."""
    return generation << 16


def live_word(generation: int) -> int:
    """The word that means "not cancelled" to its call."""
    return generation << 16 | LIVE


def cancelled_word(live: int, reason: CancelReason) -> int:
    """The word that replaces `live` when its call is to stop."""
    return live | reason.code << 8 | CANCELLED


def reason_in(word: int, live: int) -> CancelReason | None:
    """Why the call whose live word is `live` is to stop, or None while it may go on.

    With a word of another generation the call is over, and its reason is no longer on the board.
    """
    if word == live:
        return None
    if word >> 16 == live >> 16 and word & CANCELLED:
        return CancelReason.from_code(word >> 8 & 0xFF)
    return CancelReason.CLOSED
