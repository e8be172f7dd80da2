"""Ordinary code that blocks until its work is done."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from sandbox_agent_ipc.shortage import shortage_of, start_thread

T = TypeVar("T")


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
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with asyncio.Runner() as runner:
                runner.get_loop()  # made before the coroutine is: this may fail
                runner.run(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="sandbox-agent-close")
    try:
        start_thread(thread)
    except RuntimeError:  # no thread can be started; where no loop is running, none is needed
        run()
    else:
        thread.join()
    if failed:
        raise failed[0]


def in_executor(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run ordinary code in a thread of the running loop; at once where no thread can be started."""
    loop = asyncio.get_running_loop()
    try:
        return loop.run_in_executor(None, work)
    except RuntimeError as error:
        if shortage_of(error) is None:
            raise
        done: asyncio.Future[T] = loop.create_future()
        try:
            done.set_result(work())
        except Exception as failed:
            done.set_exception(failed)
        return done
