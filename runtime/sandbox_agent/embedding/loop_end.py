"""Tells when an event loop is closed around a coroutine that still waits in it.

What a signal handler raises while the loop's own code runs, KeyboardInterrupt or SystemExit, leaves
`asyncio.run` past every coroutine in it. The first time asyncio cancels them all and waits; after a
second one it does not, and they stay suspended where they are until the garbage collector comes by,
perhaps never. But whoever leaves a loop closes it, and a closed loop lets go of its timers.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_NEVER = 10 * 365 * 86400.0
"""Seconds."""


@contextmanager
def at_loop_end(call: Callable[[], object]) -> Iterator[None]:
    """If the running loop is closed while this is entered, or the interpreter exits, call `call`.

    In the thread that does that, and before it has returned from there; in a forked child as well.
    With loops that are not asyncio's own perhaps only at the exit.
    """

    def left() -> None:
        try:
            call()
        except Exception:
            raise
        except BaseException:
            # Another signal handler's. Python cannot pass it on from here, and need not: whatever
            # made somebody leave the loop is on its way.
            return

    # The loop alone holds the timer, so that it goes with the loop.
    finalizer = weakref.finalize(asyncio.get_running_loop().call_later(_NEVER, _nothing), left)
    try:
        yield
    finally:
        alive = finalizer.detach()
        if alive is not None:
            alive[0].cancel()


def _nothing() -> None:
    pass
