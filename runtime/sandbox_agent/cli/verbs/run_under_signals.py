"""Runs a conversation that signals interrupt."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sandbox_agent.cli import parent
from sandbox_agent.cli.signals import Signals
from sandbox_agent.conversation import Conversation, RunResult
from sandbox_agent.exit_codes import by_signal

if TYPE_CHECKING:
    from sandbox_agent.cli.signals import Freezer


def is_stopping(conversation: Conversation | None, signals: Signals) -> bool:
    """Whether the run is being stopped. Then nothing waits for a slow reader of its output."""
    token = conversation.cancel_token if conversation is not None else None
    return signals.first is not None or (token is not None and token.is_cancelled)


def run_under_signals(
    conversation: Conversation,
    signals: Signals,
    *,
    die_with_parent: bool | None,
    freezer: Freezer | None = None,
) -> RunResult:
    """Runs once, with INT, TERM and HUP as interrupts. Returns when everything has stopped.

    die_with_parent: whether the death of the parent interrupts too; None: if `CI` is set. freezer:
    what Ctrl-Z stops in place of the conversation, with it.
    """

    def interrupt(signum: int) -> bool:
        conversation.interrupt(exit_code=by_signal(signum))
        token = conversation.cancel_token
        return token is not None and token.is_cancelled

    async def run() -> RunResult:
        # An interrupt before the run exists does nothing. This callback is the first in the loop
        # after the run was made.
        asyncio.get_running_loop().call_soon(signals.catch_up)
        result = await conversation.arun()
        signals.end(result.exit_code)
        return result

    try:
        with conversation:
            signals.attach(interrupt, freezer or conversation)
            if parent.wanted(die_with_parent):
                parent.watch_parent(signals.strike, signals.parent)
            return asyncio.run(run())
    except Exception as error:
        # For the message that says where the traceback is.
        error.run_dir = conversation.run_dir  # type: ignore[attr-defined]
        raise
