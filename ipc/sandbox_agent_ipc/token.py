"""Cancel tokens: they say that work is to stop, and why.

A tool inside the walls gets a `CallToken`; the host cancels a `RunToken`. A cancelled token stays
cancelled for ever.
"""

from __future__ import annotations

import _thread
import math
import select
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from .cancel_reason import CancelReason as CancelReason
from .cancel_reason import reason_in

LOST_WAKE_PAUSE = 0.02
"""Seconds between looks at the flag once the wake-up is lost: the wake pipe was ready without the
flag. It is never drained, so it would stay ready. This does not happen while the host lives."""

_LONGEST_POLL = 2**31 - 1
"""Milliseconds: poll(2) takes an int."""


class Cancelled(BaseException):
    """Raised by `raise_if_cancelled()`.

    A BaseException, like KeyboardInterrupt and asyncio.CancelledError: a tool's `except Exception`
    around a step that may fail must not swallow a cancellation.
    """

    def __init__(self, reason: CancelReason) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"cancelled ({self.reason.value})"


class CancelToken(ABC):
    """Says whether the work is to stop. Look at it often, or wait on it.

    Any thread may use a token. It cannot be pickled or copied: a copy would never be cancelled.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def is_cancelled(self) -> bool:
        """True from the moment of the cancellation on, for ever. Cheap enough for inner loops."""

    @property
    @abstractmethod
    def reason(self) -> CancelReason | None:
        """Why it was cancelled; None while it is not."""

    @property
    @abstractmethod
    def deadline(self) -> float | None:
        """CLOCK_MONOTONIC seconds (`time.monotonic()`) at which the time is up; None for no limit.

        For information: the token is cancelled at that time, with the reason TIMEOUT, by the code
        that set the deadline.
        """

    @abstractmethod
    def wait(self, timeout: float | None = None) -> bool:
        """Sleeps until the cancellation, and wakes at once when it comes.

        timeout: seconds; None or infinity for no limit; zero or less only looks.
        Returns True when cancelled, False when the time was up first. Raises ValueError for NaN.
        """

    def raise_if_cancelled(self) -> None:
        """Raises `Cancelled` with the reason if the token is cancelled, else does nothing."""
        if self.is_cancelled:
            raise Cancelled(self.reason or CancelReason.CLOSED)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled or copied: the copy would never be"
            " cancelled. Hand over the token itself, or look at it before handing work over"
        )

    def __repr__(self) -> str:
        state = f"cancelled: {self.reason.value}" if self.reason else "not cancelled"
        return f"<{type(self).__name__} {state}>"


class CallToken(CancelToken):
    """A call's own token, inside the walls: its word on the board, which only the host writes.

    words: the board, read-only, as 8-byte words.  index: of the call's word; the deadline follows
    it (CLOCK_MONOTONIC nanoseconds; 0 for none), and moves when all processes stood still.
    word: the value that means "not cancelled".
    wake_fd: read end of a pipe that becomes readable after the word has changed. Never read, so
    that it wakes every thread and every later waiter.
    """

    __slots__ = ("_index", "_wake_fd", "_word", "_words")

    def __init__(self, words: memoryview[int], index: int, word: int, wake_fd: int) -> None:
        self._words = words
        self._index = index
        self._word = word
        self._wake_fd = wake_fd

    @property
    def is_cancelled(self) -> bool:
        return self._words[self._index] != self._word

    @property
    def reason(self) -> CancelReason | None:
        return reason_in(self._words[self._index], self._word)

    @property
    def deadline(self) -> float | None:
        deadline = self._words[self._index + 1]
        return deadline / 1e9 if deadline else None

    @property
    def wake_fd(self) -> int:
        """Readable (poll(2)) from the cancellation on, for waiting on it together with other
        descriptors. Never read from it."""
        return self._wake_fd

    def wait(self, timeout: float | None = None) -> bool:
        end = _end(timeout)
        poller = select.poll()
        poller.register(self._wake_fd, select.POLLIN)
        while not self.is_cancelled:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return False
            if poller.poll(_milliseconds(left)) and not self.is_cancelled:
                # Hung up because the host is gone, or closed by the tool itself. The flag decides,
                # but this descriptor would be ready for ever: polling on would burn a processor.
                return self._wait_without_wake(end)
        return True

    def _wait_without_wake(self, end: float | None) -> bool:
        while not self.is_cancelled:
            left = math.inf if end is None else end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, LOST_WAKE_PAUSE))
        return True


class RunToken(CancelToken):
    """A run's token, in the host. It lives in ordinary memory, so it is safe after a fork.

    Nothing in it takes a lock that another thread or an interrupted frame could hold: `cancel`,
    `wait` and `add_callback` may be called from a signal handler that interrupted any of them on
    the same thread. threading.Event and Condition deadlock there. It rests on single operations of
    dict and list being atomic, which CPython promises.

    deadline: CLOCK_MONOTONIC seconds; None for none. For information; the token does not watch it.
    """

    __slots__ = (
        "__weakref__",
        "_callbacks",
        "_deadline",
        "_detach",
        "_first",
        "_parents",
        "_waiters",
    )

    def __init__(self, deadline: float | None = None) -> None:
        self._deadline = deadline
        self._parents: tuple[RunToken, ...] = ()
        self._first: dict[None, list[CancelReason]] = {}
        self._waiters: list[_thread.LockType] = []
        self._callbacks: list[_Callback] = []
        self._detach = _nothing

    @property
    def is_cancelled(self) -> bool:
        return self._cause() is not None

    @property
    def reason(self) -> CancelReason | None:
        cause = self._cause()
        return cause[0] if cause else None

    @property
    def deadline(self) -> float | None:
        return self._deadline

    def _cause(self) -> list[CancelReason] | None:
        """The first cancellation, of this token or of its parents.

        A parent's counts at once. Its callbacks reach the child later: until then a thread that
        sees the parent cancelled could still begin a call with the child.
        """
        if not self._first:
            for parent in self._parents:
                if (cause := parent._cause()) is not None:
                    self._first.setdefault(None, cause)
                    break
        return self._first.get(None)

    def cancel(self, reason: CancelReason) -> bool:
        """Cancels: first the callbacks run, in this thread, then every waiter wakes.

        Returns True for the call that cancelled the token, False for every later one, whose reason
        is forgotten. Safe in signal handlers and in any thread; takes no lock.
        """
        cause = [reason]
        try:
            self._cause()
            won = self._first.setdefault(None, cause) is cause
            # Deliver also when another frame was first. It may be the frame that was interrupted by
            # the signal handler in which this runs: it cannot deliver before the handler returns.
            self._deliver(cause)
        except BaseException:
            # The handler of another signal raised somewhere above. What is left is delivered now,
            # since no other frame will do it.
            self._deliver(cause)
            raise
        return won

    def add_callback(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Has `callback()` called once at the cancellation, or now if that has been.

        It runs in the thread that cancels, perhaps in a signal handler: it must not block or lock.
        An exception of it goes to sys.excepthook, and the other callbacks still run. If the handler
        of another signal raises in the middle of it, it is called once more, because it may not
        have done its work.
        Returns a function that takes the callback back; harmless when it has already run.
        """
        entry = _Callback(callback)
        self._callbacks.append(entry)
        if self._cause():  # looked at after the append: cancel() decides first and delivers then
            self._deliver(entry)

        def remove() -> None:
            with suppress(ValueError):  # has run, or is running, or was taken back before
                self._callbacks.remove(entry)

        return remove

    def follow(self, cancel: Callable[[CancelReason], object]) -> Callable[[], None]:
        """Calls `cancel(reason)` once at the cancellation, or now if that has been. Returns a
        function that takes it back; see `add_callback`."""
        return self.add_callback(lambda: cancel(self._first[None][0]))

    def child(self, *others: RunToken) -> RunToken:
        """Makes a token that is cancelled with this one or with any of the others, for the same
        reason, or alone.

        Cancelling the child does not cancel its parents. The child has the nearest of their
        deadlines. They hold the child until they are cancelled themselves, or until `detach` of the
        child: call that when the child's work is over. Safe in signal handlers and in any thread.
        """
        parents = (self, *others)
        deadlines = [token._deadline for token in parents if token._deadline is not None]
        child = RunToken(min(deadlines, default=None))
        child._parents = parents
        # A cancellation that comes before the next line is delivered by it.
        forget = [token.follow(child.cancel) for token in parents]

        def detach() -> None:
            for one in forget:
                one()

        child._detach = detach
        return child

    def detach(self) -> None:
        """From now on the tokens that this one was made from neither cancel nor hold it.

        Changes nothing for a token that is no child, was detached before, or is cancelled.
        """
        cancelled = self._cause() is not None
        detach, self._detach = self._detach, _nothing
        self._parents = ()
        detach()
        if cancelled:  # perhaps by the parent, which now no longer delivers it
            self._deliver(object())

    def wait(self, timeout: float | None = None) -> bool:
        end = _end(timeout)
        if self._cause():
            return True
        waiter = _thread.allocate_lock()
        waiter.acquire()
        self._waiters.append(waiter)
        try:
            if self._cause():  # looked at after the append: cancel() decides first, then delivers
                return True
            if end is None:
                return waiter.acquire()
            left = min(end - time.monotonic(), _thread.TIMEOUT_MAX)
            return (left > 0 and waiter.acquire(timeout=left)) or self.is_cancelled
        finally:
            self._waiters.remove(waiter)

    def _deliver(self, frame: object) -> None:
        """Run the callbacks that no other frame runs, then wake every waiter. frame: identifies the
        caller, which may deliver again after an exception."""
        if not self._first:
            return
        try:
            for callback in list(self._callbacks):
                if callback in self._callbacks and callback.run(frame):
                    with suppress(ValueError):  # taken back meanwhile
                        self._callbacks.remove(callback)
        finally:
            # A BaseException came out of a callback: the others still run.
            if any(callback.is_due(frame) for callback in list(self._callbacks)):
                self._deliver(frame)
            for waiter in list(self._waiters):
                with suppress(RuntimeError):  # woken before; each waiter removes itself later
                    waiter.release()


def ancestors(token: RunToken) -> tuple[RunToken, ...]:
    """The tokens whose cancellation reaches this one now, nearest first."""
    parents = token._parents
    return (*parents, *(one for parent in parents for one in ancestors(parent)))


class _Callback:
    """One registration. Compared by identity, so that list.remove runs no foreign code."""

    __slots__ = ("_attempts", "_frame", "_function")

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._frame: dict[None, object] = {}
        self._attempts = 0

    def is_due(self, frame: object) -> bool:
        """Whether `frame` is to run it: no other frame does, and it was interrupted once at most.

        Not twice, because the exception may be the function's own.
        """
        return self._attempts < 2 and self._frame.get(None, frame) is frame

    def run(self, frame: object) -> bool:
        """Call the function, unless another frame does or has. Returns whether it was called."""
        if self._frame.setdefault(None, frame) is not frame or not self.is_due(frame):
            return False
        self._attempts += 1
        try:
            self._function()
        except Exception:
            sys.excepthook(*sys.exc_info())
        return True


def _nothing() -> None:
    pass


def _end(timeout: float | None) -> float | None:
    if timeout is None or timeout == math.inf:
        return None
    if math.isnan(timeout):
        raise ValueError("timeout: NaN is not a number of seconds; pass None to wait for ever")
    return time.monotonic() + timeout


def _milliseconds(left: float | None) -> int | None:
    return None if left is None else min(math.ceil(left * 1000), _LONGEST_POLL)
