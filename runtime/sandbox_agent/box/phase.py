"""The phases of a `Sandbox`, and the legal moves between them."""

from __future__ import annotations

from enum import Enum

from sandbox_agent.errors import StateError


class Phase(Enum):
    """How far a sandbox has come."""

    NEW = "not open"
    OPENING = "being opened"
    OPEN = "open"
    CLOSED = "closed"


_MOVES = {
    Phase.NEW: {Phase.OPENING, Phase.CLOSED},
    Phase.OPENING: {Phase.OPEN, Phase.CLOSED},
    Phase.OPEN: {Phase.CLOSED},
    Phase.CLOSED: {Phase.CLOSED},
}


def move(now: Phase, to: Phase) -> Phase:
    """`to`, if the move is legal. Raises StateError otherwise."""
    if to not in _MOVES[now]:
        raise StateError(f"this sandbox is {now.value}; make another one")
    return to
