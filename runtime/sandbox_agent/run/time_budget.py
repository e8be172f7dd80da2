"""The time budget of a run. It holds even while the event loop is blocked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sandbox_agent_ipc.shortage import start_thread

_JOIN_LIMIT = 1.0
"""Seconds to wait for the thread, which may be in a callback of a token."""


@contextmanager
def time_budget(seconds: float | None, stop: Callable[[], object]) -> Iterator[None]:
    """While this is entered, call `stop` after so many seconds, in a thread of its own.

    Not in the event loop: a listener may block it, and the budget must end the calls all the same.
    seconds: None for no budget and no thread. Raises RuntimeError if no thread can be started.
    """
    if seconds is None:
        yield
        return
    timer = threading.Timer(min(max(seconds, 0), threading.TIMEOUT_MAX), stop)
    timer.name, timer.daemon = "sandbox-agent time budget", True
    start_thread(timer)
    try:
        yield
    finally:
        timer.cancel()
        timer.join(_JOIN_LIMIT)
