"""The state word of one slot of the cancel board: generation << 16 | reason << 8 | flags.

A word is live for exactly one call. Cancelling changes it, and releasing the slot changes it again.
The generation only grows, so no word comes back: a call is cancelled when its slot's word is not
its own live word any more.
"""

from __future__ import annotations

from .cancel_reason import CancelReason

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
