"""Running an async tool. Its task is cancelled at the flag."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from sandbox_agent_ipc.token import LOST_WAKE_PAUSE, CallToken, Cancelled


def run_async(coroutine: Coroutine[Any, Any, Any], token: CallToken) -> Any:
    """Run to the end in this thread. The event loop watches the wake pipe: no thread, no polling.

    Raises what the coroutine raises: after the flag normally asyncio.CancelledError. Raises
    Cancelled after SIGTERM.
    """
    terminated: list[Cancelled] = []

    async def watched() -> Any:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None

        def woken() -> None:
            # The wake pipe is never drained, so it would stay readable.
            loop.remove_reader(token.wake_fd)
            look()

        def look() -> None:
            if token.is_cancelled:
                task.cancel()
            else:
                loop.call_later(LOST_WAKE_PAUSE, look)

        def failed(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            # SIGTERM came in a callback, whose exceptions the loop would only log.
            if isinstance(error := context.get("exception"), Cancelled):
                terminated.append(error)
                task.cancel()
            else:
                loop.default_exception_handler(context)

        loop.set_exception_handler(failed)
        loop.add_reader(token.wake_fd, woken)
        try:
            return await coroutine
        finally:
            loop.remove_reader(token.wake_fd)

    try:
        return asyncio.run(watched())
    except asyncio.CancelledError:
        if terminated:
            raise terminated[0] from None
        raise
