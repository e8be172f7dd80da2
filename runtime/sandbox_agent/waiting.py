"""Waiting that nobody's cancellation can cut short."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

Waitable = asyncio.Future[Any]


async def settle(
    waited_for: Iterable[Waitable],
    on_cancel: Callable[[], object],
    *,
    first: bool = False,
    timeout: float | None = None,
) -> set[Waitable]:
    """Wait until all (or the first) of them are done. Returns those that are.

    on_cancel: called when the waiting task is cancelled; the waiting goes on. What is waited for
    is not cancelled by that: it is told to stop, in its own way, and is waited for until it has.
    timeout: seconds; starts anew after a cancellation.
    """
    pending = set(waited_for)
    when = asyncio.FIRST_COMPLETED if first else asyncio.ALL_COMPLETED
    while pending:
        try:
            await asyncio.wait(pending, timeout=timeout, return_when=when)
        except asyncio.CancelledError:
            on_cancel()
            continue
        break
    return {item for item in pending if item.done()}


def complete(work: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Run an async function to its end from ordinary code, also where a loop is running."""
    thread = threading.Thread(target=lambda: asyncio.run(work()), name="sandbox-agent-close")
    thread.start()
    thread.join()
