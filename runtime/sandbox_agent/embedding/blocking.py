"""Ordinary code that blocks until its work is done."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any


def call_until_it_returns(work: Callable[[], object], hurry: Callable[[], object]) -> None:
    """Call `work` again each time a signal handler raises in it, until it returns.

    `work` must go on where it was when it is called again. hurry: called after each of these
    exceptions. Raises the first of them at the end, and an Exception, which is a bug, at once.
    """
    first: BaseException | None = None
    while True:
        try:
            work()
        except Exception:
            raise
        except BaseException as error:
            first = first or error
            hurry()
        else:
            break
    if first is not None:
        raise first


def run_async(work: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Run an async function to its end from ordinary code, also where an event loop is running."""
    thread = threading.Thread(target=lambda: asyncio.run(work()), name="sandbox-agent-close")
    thread.start()
    thread.join()
