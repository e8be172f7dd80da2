"""Ordinary code in a thread that nobody has to wait for: the disk that it reads may hang."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from sandbox_agent_ipc.futures import call_soon, running_loop
from sandbox_agent_ipc.shortage import start_thread

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class Background(Generic[T]):
    """Begins at once. name: of the thread.

    The thread does not keep the interpreter or an event loop from ending, unlike one of an
    executor. Where no thread can be started, the work is done in this one.
    """

    def __init__(self, work: Callable[[], T], name: str) -> None:
        self._work = work
        self._lock = _thread.allocate_lock()
        self._settle: Callable[[asyncio.Future[T]], None] | None = None
        self._waiting: list[asyncio.Future[T]] = []
        try:
            thread = threading.Thread(target=self._run, name=f"sandbox-agent {name}", daemon=True)
            start_thread(thread)
        except RuntimeError:
            self._run()

    def _run(self) -> None:
        try:
            settle = partial(_set_result, self._work())
        except BaseException as error:
            settle = partial(_set_exception, error)
        with self._lock:
            self._settle = settle
        for future in self._waiting:
            call_soon(future.get_loop(), settle, future)

    def result(self) -> asyncio.Future[T]:
        """A future of the running event loop. To cancel it leaves the work going."""
        future: asyncio.Future[T] = running_loop().create_future()
        with self._lock:
            if self._settle is None:
                self._waiting.append(future)
                return future
        self._settle(future)
        return future


def _set_result(result: T, future: asyncio.Future[T]) -> None:
    if not future.done():  # it may have been cancelled
        future.set_result(result)


def _set_exception(error: BaseException, future: asyncio.Future[T]) -> None:
    if not future.done():
        future.set_exception(error)
