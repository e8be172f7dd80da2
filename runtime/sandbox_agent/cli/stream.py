"""A file that a thread of its own writes to: standard output, standard error, the target of `-o`.

A reader that does not read (a pager, a stopped terminal) blocks write(2) for as long as it likes.
That must not block an interrupt, so `write` only queues, and whoever waits can stop waiting.
"""

from __future__ import annotations

import errno
import os
import select
import threading
from collections import deque
from collections.abc import Callable

from sandbox_agent_ipc.shortage import start_thread
from sandbox_agent_sandbox import capture

QUEUE_BYTES = 1024 * 1024
"""Bytes that are queued for a slow reader."""

_PIECE = 65536

_LOOK_SECONDS = 0.1
"""Between two calls of `give_up`."""

GiveUp = Callable[[], bool]
"""Whether to stop waiting for a reader. Called ten times a second."""


class Stream:
    """One descriptor and the thread that writes to it. Errors are kept, never raised.

    Results must arrive: those that did not are counted. Some notes may be left out while the reader
    is slow; a line in their place says so. fd: the descriptor. error: why nothing more can be
    written, or None. lost: bytes of results that were not written.
    """

    def __init__(self, fd: int, error: OSError | None = None) -> None:
        self.fd = fd
        self.is_terminal = os.isatty(fd)
        self.error = error
        self.lost = 0
        self._cut = False  # a result was lost, so those after it are left out too
        self._queue: deque[tuple[bytes, bool]] = deque()  # data, whether it is a result
        self._queued = 0
        self._written = 0  # of the first item
        self._left_out = 0
        self._on_room: list[Callable[[], object]] = []
        self._closing = self._given_up = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, data: bytes, give_up: GiveUp | None = None) -> None:
        """Queues a result. With `give_up` it waits while the queue is full, until `give_up()` is
        True: then this result and all later ones are lost."""
        if not data:
            return
        with self._changed:
            while give_up is not None and self.is_full and self._can_write:
                if give_up():
                    self._cut = True
                else:
                    self._changed.wait(_LOOK_SECONDS)
            if self._can_write:
                self._put(data, is_result=True)
            else:
                self.lost += len(data)

    @property
    def is_idle(self) -> bool:
        """Whether all that was queued is written."""
        return not self._queue

    @property
    def is_full(self) -> bool:
        """Whether the queue holds all that it should."""
        return self._queued >= QUEUE_BYTES

    def call_when_it_has_room(self, callback: Callable[[], object]) -> None:
        """Calls `callback` once the queue has room, or when nothing can be written any more; in any
        thread, or at once."""
        with self._changed:
            self._on_room.append(callback)
            if not self.is_full:
                self._say_that_it_has_room()

    def note(self, data: bytes, *, may_be_left_out: bool = False) -> None:
        """Queues a note."""
        with self._changed:
            if self.error is not None:
                return
            if may_be_left_out and self.is_full:
                self._left_out += len(data)
                return
            self._say_what_is_left_out()
            self._put(data, is_result=False)

    def finish(self, give_up: GiveUp) -> None:
        """Waits until all is written, or until `give_up()`: then what is queued is lost, and from
        now on nobody waits for this reader."""
        with self._changed:
            self._say_what_is_left_out()
            thread, self._closing = self._thread, True
            self._changed.notify_all()
        while thread is not None and not self._given_up:
            thread.join(_LOOK_SECONDS)
            if not thread.is_alive():
                return
            if give_up():
                with self._changed:
                    self._cut = self._given_up = True
                    self._drop_queue()

    @property
    def _can_write(self) -> bool:
        return self.error is None and not self._cut

    def _put(self, data: bytes, *, is_result: bool) -> None:
        self._queue.append((data, is_result))
        self._queued += len(data)
        self._closing = False
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name=f"stream {self.fd}", daemon=True
            )
            try:
                start_thread(self._thread)
            except RuntimeError:  # no process or thread is left: pids.max, RLIMIT_NPROC
                self._closing = True
                self._work()
        self._changed.notify_all()

    def _say_what_is_left_out(self) -> None:
        if self._left_out and self.error is None:
            self._put(capture.note(self._left_out), is_result=False)
            self._left_out = 0

    def _drop_queue(self) -> None:
        self.lost += sum(len(data) for data, is_result in self._queue if is_result)
        if self._queue and self._queue[0][1]:
            self.lost -= self._written
        self._queue.clear()
        self._queued = self._written = 0
        self._say_that_it_has_room()

    def _say_that_it_has_room(self) -> None:
        self._changed.notify_all()
        for callback in self._on_room:
            callback()
        self._on_room.clear()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    if self._closing:
                        self._thread = None
                        return
                    self._changed.wait()
                item, begin = self._queue[0], self._written
            try:
                count = self._write(memoryview(item[0])[begin : begin + _PIECE])
            except OSError as error:  # EPIPE: the reader has closed
                # A terminal has hung up, or the other end of a TCP connection is gone.
                gone = errno.EIO if self.is_terminal else errno.ECONNRESET
                if error.errno == gone:
                    error = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
                with self._changed:
                    self.error = error
                    self._drop_queue()
                    self._thread = None
                return
            with self._changed:
                if self._queue and self._queue[0] is item:  # else it was given up meanwhile
                    self._queued -= count
                    self._written += count
                    if self._written == len(item[0]):
                        self._queue.popleft()
                        self._written = 0
                    if not self.is_full:
                        self._say_that_it_has_room()

    def _write(self, data: memoryview) -> int:
        while True:
            try:
                return os.write(self.fd, data)
            except BlockingIOError:  # another process made the shared file non-blocking
                poll = select.poll()
                poll.register(self.fd, select.POLLOUT)
                poll.poll()
