"""Futures of an event loop that other threads, callbacks and cancel tokens resolve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .loops import running_loop
from .token import RunToken

if TYPE_CHECKING:
    import asyncio


def resolve(future: asyncio.Future[None]) -> None:
    """Resolve the future, unless it is done or cancelled."""
    if not future.done():
        future.set_result(None)


def call_soon(
    loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *arguments: Any
) -> bool:
    """Call `callback(*arguments)` in the loop, from any thread and from signal handlers.

    Returns False, and does nothing, when the loop is closed.
    """
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        return False
    return True


@contextmanager
def cancellation(token: RunToken | None) -> Iterator[asyncio.Future[None]]:
    """A future of the running loop that is resolved once the token is cancelled; with None, never.

    When the block is left the token no longer refers to the future.
    """
    loop = running_loop()
    cancelled: asyncio.Future[None] = loop.create_future()
    if token is None:
        yield cancelled
        return
    forget = token.add_callback(lambda: call_soon(loop, resolve, cancelled))
    try:
        yield cancelled
    finally:
        forget()
