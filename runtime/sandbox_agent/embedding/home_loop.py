"""The event loop that a run began in, and what happens to the run when that loop is left.

What a signal handler raises while the loop's own code runs (KeyboardInterrupt, SystemExit) leaves
`asyncio.run` past every coroutine in it. The first time, asyncio cancels all tasks and waits for
them. After a second exception it does not wait, and the coroutines stay suspended where they are.
The run is then *deserted*: its loop does not run, so nothing awaits its end any more.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sandbox_agent.embedding.loop_end import at_loop_end
from sandbox_agent.embedding.signal_wakeup import signals_wake_the_loop


class HomeLoop:
    """The running event loop, its thread and its process, as they are when this is made."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._pid = os.getpid()

    @property
    def is_this_thread(self) -> bool:
        """Whether the caller is in the loop's thread."""
        return threading.get_ident() == self._thread

    @property
    def is_forked_copy(self) -> bool:
        """Whether this is a copy in a forked child: the loop runs, if at all, in the parent."""
        return os.getpid() != self._pid

    @property
    def is_deserted(self) -> bool:
        """Whether the loop is closed, or was left by the calling thread, which is its own."""
        left = self.is_this_thread and not self.loop.is_running()
        return left or self.loop.is_closed()

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Have the loop call something. From any thread and from signal handlers."""
        with suppress(RuntimeError):  # The loop is closed: nothing is left to wake.
            self.loop.call_soon_threadsafe(callback, *arguments)

    @contextmanager
    def end_if_deserted(self, end: Callable[[], object]) -> Iterator[None]:
        """While this is entered, call `end` when the loop closes or the coroutine is thrown away.

        Also wakes the loop at each signal, so that handlers run at once. end: a bound method, held
        weakly. It may block, and is called in whichever thread closes the loop.
        """
        try:
            with signals_wake_the_loop(), at_loop_end(end):
                yield
        except GeneratorExit:
            end()
            raise
