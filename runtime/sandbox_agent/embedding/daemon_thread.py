"""Ordinary code in a thread that nobody has to wait for: the disk that it reads may hang."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """Begins at once. name: of the thread.

    The thread does not keep the interpreter or an event loop from ending, unlike one of an
    executor. Where no thread can be started, the work is done in this one.
    """

    def __init__(self, work: Callable[[], T], name: str) -> None:
        self._future: Future[T] = Future()
        self._work = work
        try:
            threading.Thread(target=self._run, name=f"sandbox-agent {name}", daemon=True).start()
        except RuntimeError:
            self._run()

    def _run(self) -> None:
        try:
            self._future.set_result(self._work())
        except BaseException as error:
            self._future.set_exception(error)

    def result(self) -> asyncio.Future[T]:
        """A future of the running event loop. To cancel it leaves the work going."""
        if self._future.done() and self._future.exception() is None:
            done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            done.set_result(self._future.result())
            return done
        return asyncio.shield(asyncio.wrap_future(self._future))
