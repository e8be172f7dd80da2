"""Asking a provider, with litellm."""

from __future__ import annotations

from collections.abc import Callable

from sandbox_agent_ipc.model_messages import Answer, Ask, Failure, Piece


def load() -> None:
    """Imports litellm, and what its first request would import. Seconds; blocks."""
    raise NotImplementedError


async def answer(ask: Ask, tell: Callable[[Piece], None]) -> Answer | Failure:
    """One chat completion, repetitions included. Needs `load()` before.

    tell: called with each piece as it comes. Cancelling the task closes the connection.
    """
    raise NotImplementedError
