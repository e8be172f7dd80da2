"""A run's budget of time, kept whatever its event loop does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PATIENCE = 1.0
"""Seconds that the thread may take to end. It can be in a callback of somebody's token."""


@contextmanager
def time_budget(seconds: float | None, stop: Callable[[], object]) -> Iterator[None]:
    """While it is entered, call `stop` after so many seconds, in a thread of its own.

    Not by the loop: a listener may block that, and the budget is to end what goes on meanwhile.
    None: no budget and no thread. Raises RuntimeError when no thread can be started.
    """
    if seconds is None:
        yield
        return
    timer = threading.Timer(min(max(seconds, 0), threading.TIMEOUT_MAX), stop)
    timer.name, timer.daemon = "sandbox-agent time budget", True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join(_PATIENCE)
