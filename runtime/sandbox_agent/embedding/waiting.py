"""Waiting that nobody's cancellation can cut short."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

Waitable = asyncio.Future[Any]
T = TypeVar("T")


async def settle(
    waited_for: Iterable[Waitable],
    on_cancel: Callable[[asyncio.CancelledError], object],
    *,
    first: bool = False,
    timeout: float | None = None,
) -> set[Waitable]:
    """Wait until all (or the first) of them are done. Returns those that are.

    on_cancel: called with each cancellation of the waiting task; the waiting goes on. What is
    waited for is not cancelled by that: it is told to stop, in its own way, and is waited for until
    it has.
    timeout: seconds, cancelled or not.
    """
    items = set(waited_for)
    clock = asyncio.get_running_loop().time
    deadline = math.inf if timeout is None else clock() + timeout
    enough = any if first else all
    when = asyncio.FIRST_COMPLETED if first else asyncio.ALL_COMPLETED
    # Looked at again after each cancellation: under an anyio scope there is one in every turn of
    # the loop, and each takes the place of the wake-up that says that all is done.
    while items and not enough(item.done() for item in items):
        left = deadline - clock()
        if left <= 0:
            break
        try:
            limit = None if left == math.inf else left
            await asyncio.wait(items, timeout=limit, return_when=when)
        except asyncio.CancelledError as cancellation:
            on_cancel(cancellation)
    return {item for item in items if item.done()}


class Cancellation:
    """What is left to raise for somebody else's cancellation when the waiting is over.

    Its message counts: an anyio scope takes back only what carries its own. One without, which is
    asyncio's, must not end in such a scope, so it is preferred; Ctrl-C may be behind it.
    """

    def __init__(self) -> None:
        self._arguments: tuple[object, ...] | None = None

    def note(self, cancellation: asyncio.CancelledError) -> None:
        """Keep it: what it says, not its frames."""
        if self._arguments is None or not cancellation.args:
            self._arguments = cancellation.args

    def raise_again(self) -> None:
        """Raise CancelledError, if there was one."""
        if self._arguments is not None:
            raise asyncio.CancelledError(*self._arguments)


def run_to_the_end(work: Callable[[], T], hurry: Callable[[], object]) -> T:
    """Call `work` until it returns, whatever signal handlers raise in it meanwhile.

    For work that goes on where it was when it is called again. hurry: called after each such
    exception. The first of them is raised at the end; an Exception, which is a bug, at once.
    """
    first: BaseException | None = None
    while True:
        try:
            result = work()
        except Exception:
            raise
        except BaseException as error:
            first = first or error
            hurry()
        else:
            break
    if first is not None:
        raise first
    return result


def complete(work: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Run an async function to its end from ordinary code, also where a loop is running."""
    thread = threading.Thread(target=lambda: asyncio.run(work()), name="sandbox-agent-close")
    thread.start()
    thread.join()
