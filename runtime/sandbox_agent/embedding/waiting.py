"""Work of ordinary code that nothing cuts short."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


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
