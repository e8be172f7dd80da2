"""Waiting for work that must stop before a cancellation goes on: stop first, then raise.

`asyncio.Task.cancel` raises CancelledError where the task waits. A task that waits for a call must
not leave at once: the call's processes would still run. So each cancellation is absorbed, the
work is asked to stop, the waiting goes on, and CancelledError is raised at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .futures import cancelled_errors, running_loop, wait

if TYPE_CHECKING:
    import asyncio


class CancelShield:
    """Absorbs cancellations of the task that waits in it, until `raise_cancelled`.

    on_cancel: asks the work to stop. Called at each cancellation, so it must bear repetition.
    """

    def __init__(self, on_cancel: Callable[[], object] = lambda: None) -> None:
        self._on_cancel = on_cancel
        self._arguments: tuple[object, ...] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether a cancellation was absorbed."""
        return self._arguments is not None

    async def wait(
        self,
        futures: Iterable[asyncio.Future[Any]],
        *,
        first: bool = False,
        timeout: float | None = None,
    ) -> set[asyncio.Future[Any]]:
        """Wait until all futures are done, or the first one. Returns those that are done.

        The futures themselves are not cancelled. timeout: seconds, over all cancellations.
        """
        items = set(futures)
        clock = running_loop().time
        deadline = math.inf if timeout is None else clock() + timeout
        enough = any if first else all
        # The items are looked at after each cancellation. An anyio scope cancels its task in every
        # turn of the loop, and each cancellation replaces the wake-up that says that all is done.
        while items and not enough(item.done() for item in items):
            left = deadline - clock()
            if left <= 0:
                break
            try:
                limit = None if left == math.inf else left
                await wait(items, timeout=limit, first=first)
            except cancelled_errors() as cancellation:
                self.absorb(cancellation)
        return {item for item in items if item.done()}

    def absorb(self, cancellation: BaseException) -> None:
        """Keep a cancellation for `raise_cancelled`, and ask the work to stop.

        Keeps its arguments and not its frames. An anyio scope takes back only a cancellation with
        the scope's own message. One without a message is asyncio's own (Ctrl-C, for instance) and
        must not end in such a scope, so it is preferred.
        """
        if self._arguments is None or not cancellation.args:
            self._arguments = cancellation.args
        self._on_cancel()

    def raise_cancelled(self) -> None:
        """Raise CancelledError if a cancellation was absorbed."""
        if self._arguments is not None:
            import asyncio

            raise asyncio.CancelledError(*self._arguments)
