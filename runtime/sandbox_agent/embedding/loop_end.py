"""Notices that an event loop is closed while a coroutine is still suspended in it.

A suspended coroutine gets no exception when its loop closes: it stays where it is until the garbage
collector finds it, perhaps never. But a loop that closes drops its timers, so a timer that is
collected says that the loop was closed.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_NEVER = 10 * 365 * 86400.0
"""Seconds."""


@contextmanager
def at_loop_end(method: Callable[[], object]) -> Iterator[None]:
    """While this is entered, call `method` if the running loop closes or the interpreter exits.

    `close()` of the loop returns after the call, which is made in its thread. A forked child makes
    the call as well. A loop that is not asyncio's own may make it at the exit only.
    method: a bound method. Its object is held weakly: the loop's end must not keep it alive.
    """
    weakly = weakref.WeakMethod(method)

    def loop_closed() -> None:
        call = weakly()
        if call is None:
            return
        try:
            call()
        except Exception:
            raise
        except BaseException:
            # Another signal handler raised it. Python cannot pass it on from a finalizer, and need
            # not: the exception that made the program leave the loop is on its way.
            return

    # Only the loop holds the timer, so the timer is collected when the loop closes.
    timer = asyncio.get_running_loop().call_later(_NEVER, _nothing)
    finalizer = weakref.finalize(timer, loop_closed)
    del timer
    try:
        yield
    finally:
        alive = finalizer.detach()
        if alive is not None:
            alive[0].cancel()


def _nothing() -> None:
    pass
