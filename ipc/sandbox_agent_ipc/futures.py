"""The event loop of the running thread, which is asyncio's or a `LoneLoop`, and its futures.

What waits for workers runs in either. A program that embeds the runtime has asyncio. A command that
makes one call and exits would import it for nothing, which takes longer than the call.
"""

from __future__ import annotations

import _thread
import math
import os
import select
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from .token import RunToken

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

T = TypeVar("T")

_running: dict[int, LoneLoop] = {}
"""By thread."""


def running_loop() -> AbstractEventLoop:
    """The loop that this thread runs. Raises RuntimeError if there is none."""
    lone = _running.get(_thread.get_ident())
    if lone is not None:
        return cast("AbstractEventLoop", lone)
    import asyncio

    return asyncio.get_running_loop()


async def wait(
    futures: Iterable[Future[Any]], *, timeout: float | None = None, first: bool = False
) -> None:
    """Wait until all futures are done, or the first one, or for `timeout` seconds. The futures are
    not cancelled."""
    lone = _running.get(_thread.get_ident())
    if lone is not None:
        items = list(futures)
        enough = any if first else all
        deadline = math.inf if timeout is None else lone.time() + timeout
        await _Until(lambda: enough(item.done() for item in items), deadline)
        return
    import asyncio

    when = asyncio.FIRST_COMPLETED if first else asyncio.ALL_COMPLETED
    await asyncio.wait(set(futures), timeout=timeout, return_when=when)


def resolve(future: Future[None]) -> None:
    """Resolve the future, unless it is done or cancelled."""
    if not future.done():
        future.set_result(None)


def call_soon(
    loop: AbstractEventLoop | LoneLoop, callback: Callable[..., object], *arguments: Any
) -> bool:
    """Call `callback(*arguments)` in the loop, from any thread and from signal handlers.

    Returns False, and does nothing, when the loop is closed.
    """
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        return False
    return True


@contextmanager
def cancellation(token: RunToken | None) -> Iterator[Future[None]]:
    """A future of the running loop that is resolved once the token is cancelled; with None, never.

    When the block is left the token no longer refers to the future.
    """
    loop = running_loop()
    cancelled: Future[None] = loop.create_future()
    if token is None:
        yield cancelled
        return
    forget = token.add_callback(lambda: call_soon(loop, resolve, cancelled))
    try:
        yield cancelled
    finally:
        forget()


class LoneCancelled(BaseException):
    """What asyncio.CancelledError is in asyncio: the coroutine that waits is to stop."""


def cancelled_errors() -> tuple[type[BaseException], ...]:
    """For `except`: what is raised where a coroutine waits, when it is to stop."""
    return LoneCancelled, _of_asyncio("CancelledError", LoneCancelled)


def is_future(one: object) -> bool:
    """Whether it is a future of one of these loops."""
    return isinstance(one, LoneFuture | _of_asyncio("Future", LoneFuture))


def _of_asyncio(name: str, otherwise: type) -> Any:
    """A class of asyncio; another one while asyncio is not loaded, because nothing is of it then.
    In a thread it may be half loaded."""
    return getattr(sys.modules.get("asyncio"), name, otherwise)


class _Until(msgspec.Struct, frozen=True):
    """What a coroutine waits for in a `LoneLoop`. deadline: of the loop's clock."""

    is_so: Callable[[], bool]
    deadline: float = math.inf

    def __await__(self) -> Generator[_Until, None, None]:
        yield self


class LoneFuture(Generic[T]):
    """What asyncio.Future is in asyncio, without cancellation. Belongs to the loop's thread."""

    def __init__(self, loop: LoneLoop) -> None:
        self._loop = loop
        self._is_done = False
        self._result: T | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[LoneFuture[T]], object]] = []

    def get_loop(self) -> LoneLoop:
        """The loop that it belongs to."""
        return self._loop

    def done(self) -> bool:
        """Whether it has a result or an error."""
        return self._is_done

    def result(self) -> T:
        """Its result. Raises its error."""
        if self._error is not None:
            raise self._error
        return cast("T", self._result)

    def set_result(self, result: T) -> None:
        """Give it its result, once."""
        self._result = result
        self._end()

    def set_exception(self, error: BaseException) -> None:
        """Give it its error instead."""
        self._error = error
        self._end()

    def add_done_callback(self, callback: Callable[[LoneFuture[T]], object]) -> None:
        """Have the loop call `callback` with it once it is done."""
        if self._is_done:
            self._loop.call_soon(callback, self)
        else:
            self._callbacks.append(callback)

    def _end(self) -> None:
        if self._is_done:
            raise RuntimeError("the future is done already")
        self._is_done = True
        for callback in self._callbacks:
            self._loop.call_soon(callback, self)

    def __await__(self) -> Generator[_Until, None, T]:
        if not self._is_done:
            yield _Until(self.done)
        return self.result()


class _Wake:
    """An eventfd, which is closed once nobody holds it: who writes to it holds it, so its number is
    no other descriptor's meanwhile."""

    def __init__(self) -> None:
        self.number = -1  # should there be no descriptor left
        self.number = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


class LoneLoop:
    """Runs coroutines to their end, one at a time, in one thread. It has the part of asyncio's
    interface that waiting for workers needs. Raises OSError if there is no descriptor left.

    Any thread, and a signal handler, may call `call_soon_threadsafe`. poll(2), eventfd(2)
    """

    def __init__(self) -> None:
        self._wake: _Wake | None = _Wake()
        self._poll = select.poll()
        self._poll.register(self._wake.number, select.POLLIN)
        self._soon: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._later: list[tuple[float, Callable[..., object], tuple[Any, ...]]] = []
        self._readers: dict[int, tuple[Callable[..., object], tuple[Any, ...]]] = {}
        self._begun: _Until | BaseException | None = None

    time = staticmethod(time.monotonic)

    def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine to where it first waits. `run` is to go on with it, and raises what it
        raised. Meanwhile the thread may do something else."""
        me = _thread.get_ident()
        _running[me] = self
        try:
            self._begun = work.send(None)
        except BaseException as end:  # StopIteration is its result
            self._begun = end
        finally:
            del _running[me]

    def run(self, work: Coroutine[Any, Any, T], stop: Callable[[], bool] | None = None) -> T:
        """Run a coroutine to its end, and return its result.

        stop: asked whenever something has happened, which `call_soon_threadsafe` makes happen. Once
        it says True, LoneCancelled is raised where the coroutine waits.
        """
        me = _thread.get_ident()
        _running[me] = self
        asked = stop or _never
        try:
            until = self._first_wait(work)
            while True:
                cancelled = not self._turn(until, asked)
                if cancelled:
                    asked = _never
                until = work.throw(LoneCancelled()) if cancelled else work.send(None)
        except StopIteration as end:
            return cast("T", end.value)
        finally:
            work.close()
            del _running[me]

    def close(self) -> None:
        """Give its descriptor back. A `call_soon_threadsafe` that comes later raises
        RuntimeError."""
        self._wake = None

    def is_closed(self) -> bool:
        """Whether its descriptor is gone."""
        return self._wake is None

    # --- as asyncio has it -------------------------------------------------------------------

    def create_future(self) -> LoneFuture[Any]:
        """A future of this loop."""
        return LoneFuture(self)

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Call it in the next turn."""
        self._soon.append((callback, arguments))

    def call_soon_threadsafe(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Call it in the next turn. From any thread and from signal handlers. Raises RuntimeError
        when the loop is closed."""
        wake = self._wake  # held while it is written to
        if wake is None:
            raise RuntimeError("the loop is closed")
        self._soon.append((callback, arguments))
        os.eventfd_write(wake.number, 1)

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: Any) -> None:
        """Call it after so many seconds."""
        self._later.append((self.time() + delay, callback, arguments))

    def add_reader(self, fd: int, callback: Callable[..., object], *arguments: Any) -> None:
        """Call it whenever the descriptor can be read, or has ended."""
        self._poll.register(fd, select.POLLIN)
        self._readers[fd] = callback, arguments

    def remove_reader(self, fd: int) -> bool:
        """Undo `add_reader`. Returns whether there was one."""
        if self._readers.pop(fd, None) is None:
            return False
        self._poll.unregister(fd)
        return True

    def run_in_executor(
        self, executor: None, work: Callable[..., T], *arguments: Any
    ) -> LoneFuture[T]:
        """Call ordinary code in a thread that nobody has to wait for; at once where no thread can
        be started."""
        future: LoneFuture[T] = LoneFuture(self)

        def call() -> tuple[Callable[[Any], None], Any]:
            try:
                return future.set_result, work(*arguments)
            except BaseException as error:
                return future.set_exception, error

        def run() -> None:
            try:
                self.call_soon_threadsafe(*call())
            except RuntimeError:  # closed meanwhile: nobody waits
                return

        try:
            _thread.start_new_thread(run, ())
        except RuntimeError:
            settle, value = call()
            settle(value)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Say that a callback has failed. The loop goes on."""
        warnings.warn(f"{context['message']}: {context['exception']!r}", stacklevel=1)

    # -----------------------------------------------------------------------------------------

    def _first_wait(self, work: Coroutine[Any, Any, Any]) -> _Until:
        begun, self._begun = self._begun, None
        if isinstance(begun, BaseException):
            raise begun
        return cast("_Until", work.send(None)) if begun is None else begun

    def _turn(self, until: _Until, stop: Callable[[], bool]) -> bool:
        """Wait. Returns False if it was stopped before."""
        while True:
            for _ in range(len(self._soon)):
                self._call(*self._soon.popleft())
            now = self.time()
            if until.is_so() or now >= until.deadline:
                return True
            if stop():
                return False
            due = min([until.deadline, *(when for when, *_ in self._later)])
            left = 0 if self._soon else max(0.0, due - now)
            wake = -1 if self._wake is None else self._wake.number
            for fd, _ in self._poll.poll(None if left == math.inf else math.ceil(left * 1000)):
                if fd == wake:
                    os.eventfd_read(fd)
                elif fd in self._readers:  # and not removed by the callback before
                    self._call(*self._readers[fd])
            self._call_what_is_due()

    def _call_what_is_due(self) -> None:
        if not self._later:
            return
        now = self.time()
        due = [one for one in self._later if one[0] <= now]
        self._later = [one for one in self._later if one[0] > now]
        for _, callback, arguments in due:
            self._call(callback, arguments)

    def _call(self, callback: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        try:
            callback(*arguments)
        except Exception as error:
            self.call_exception_handler({"message": f"{callback!r} failed", "exception": error})


def _never() -> bool:
    return False
