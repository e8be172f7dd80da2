"""Runs a conversation under the command line's signals."""

from __future__ import annotations

import asyncio

from sandbox_agent.cli import parent
from sandbox_agent.cli.signals import Signals
from sandbox_agent.conversation import Conversation, RunResult
from sandbox_agent.exit_codes import by_signal


def run_under_signals(
    conversation: Conversation, signals: Signals, *, die_with_parent: bool | None
) -> RunResult:
    """One run, with INT, TERM and HUP as its interrupts. Returns when all has stopped.

    die_with_parent: whether the parent's death is one more; None: where `CI` is set.
    """

    def interrupt(signum: int) -> None:
        conversation.interrupt(exit_code=by_signal(signum))

    async def run() -> RunResult:
        # An interrupt before the run exists does nothing. The callback comes first in the loop
        # after the run has been made, so a signal that struck in between is delivered there;
        # a run that it has stopped already is left alone, as a second one would hurry it.
        asyncio.get_running_loop().call_soon(catch_up)
        return await conversation.arun()

    def catch_up() -> None:
        token = conversation.cancel_token
        if signals.first is not None and (token is None or not token.is_cancelled):
            interrupt(signals.first)

    try:
        with conversation:
            signals.attach(interrupt, conversation)
            if parent.wanted(die_with_parent):
                parent.watch_parent(signals.strike, signals.parent)
            result = asyncio.run(run())
            signals.end()
            return result
    except Exception as error:
        # For the message about it, which says where the traceback is.
        error.run_dir = conversation.run_dir  # type: ignore[attr-defined]
        raise
