"""Standard output and error, each written by a thread.

A reader that does not read (a stuck pager, a stopped terminal) blocks write(2) for ever. That must
not block an interrupt or the exit, so `write` only queues, and the exit waits one second.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from sandbox_agent_sandbox import capture

from sandbox_agent.reports.escape import TerminalFilter, escape_text

if TYPE_CHECKING:
    from sandbox_agent_sandbox.outcome import Survivor

QUEUE_BYTES = 1024 * 1024
"""Bytes that one stream queues for a slow reader."""
CLOSE_SECONDS = 1.0
"""Seconds that the exit waits for a reader."""


def fill_standard_descriptors() -> None:
    """Opens /dev/null in place of closed standard descriptors (`>&-`).

    Otherwise the next opened file, for example the journal, becomes standard output.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != fd:  # open(2) takes the lowest free number
                os.dup2(opened, fd)
                os.close(opened)


class Stream:
    """One descriptor and the thread that writes to it. Errors are kept, never raised."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.is_terminal = os.isatty(fd)
        self.error: OSError | None = None
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._dropped = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, data: bytes, give_up: Callable[[], bool] | None = None) -> None:
        """Queues `data`. If the queue is full, it waits until there is room or `give_up()` is True
        (called ten times a second); then, or without `give_up`, `data` is dropped and counted."""
        if not data or self.error is not None:
            return
        while True:
            with self._changed:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._work, name=f"stream {self._fd}", daemon=True
                    )
                    self._thread.start()
                if self._queued < QUEUE_BYTES:
                    if self._dropped:
                        note = capture.note(self._dropped)
                        self._queue.append(note)
                        self._queued += len(note)
                        self._dropped = 0
                    self._queue.append(data)
                    self._queued += len(data)
                    self._changed.notify_all()
                    return
                if self.error is not None:
                    return
                if give_up is None or give_up():
                    self._dropped += len(data)
                    return
                self._changed.wait(0.1)

    def close(self, until: float) -> bool:
        """Waits until all is written, at most until `until` (CLOCK_MONOTONIC seconds), and lets
        the thread end when the queue is empty. Returns whether all was written."""
        done = self.flush(until)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if done and self._thread is not None:
            self._thread.join(max(0, until - time.monotonic()))
        return done

    def flush(self, until: float) -> bool:
        """Waits until all is written, at most until `until`. Returns whether all was written."""
        with self._changed:
            while self._queued and self.error is None:
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    if self._closing:
                        return
                    self._changed.wait()
                data = self._queue.popleft()
            try:
                self._write_all(data)
            except OSError as error:  # EPIPE: the reader has closed; the run continues
                with self._changed:
                    self.error = error
                    self._queue.clear()
                    self._queued = 0
                    self._changed.notify_all()
                return
            with self._changed:
                self._queued -= len(data)
                self._changed.notify_all()

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view[:65536]) :]
            except BlockingIOError:  # another process made the shared file non-blocking
                select.select([], [self._fd], [])


class Console:
    """The output of a command: results on standard output, the rest on standard error.

    later: a context that delays signals; entered while a lock is held.
    """

    def __init__(self, later: AbstractContextManager[object]) -> None:
        self._later = later
        self.stdout = Stream(1)
        self.stderr = Stream(2)

    def out(self, text: str) -> None:
        """Writes a result. Control characters are escaped only for a terminal."""
        shown = escape_text(text) if self.stdout.is_terminal else text
        with self._later:
            self.stdout.write(shown.encode("utf-8", "surrogateescape"))

    def err(self, text: str) -> None:
        """Writes progress and notes. Control characters are always escaped."""
        data = escape_text(text).encode("utf-8", "backslashreplace")
        with self._later:
            self.stderr.write(data)

    def error(self, message: str) -> None:
        """Writes an error message."""
        self.err(f"sandbox-agent: {message}\n")

    def survivors(self, survivors: Iterable[Survivor]) -> None:
        """Names the processes that could not be stopped."""
        for survivor in survivors:
            self.error(f"could not stop pid {survivor.pid}: {survivor.command}")

    def warn(self, message: Warning | str, *_: Any, **__: Any) -> None:
        """Writes a warning; a `warnings.showwarning`. May be called from any thread."""
        self.stderr.write(escape_text(f"warning: {message}\n").encode("utf-8", "backslashreplace"))

    def passer(self) -> Callable[[str, bytes, Callable[[], bool] | None], bool]:
        """Returns a function that passes on a command's output: `f("stdout", data, give_up)`.

        The function returns False once the reader has closed its end (`... | head`)."""
        streams = {"stdout": self.stdout, "stderr": self.stderr}
        filters = {name: TerminalFilter() for name, s in streams.items() if s.is_terminal}

        def pass_on(name: str, data: bytes, give_up: Callable[[], bool] | None) -> bool:
            if name in filters:
                data = filters[name].feed(data)
            streams[name].write(data, give_up)
            return streams[name].error is None

        return pass_on

    def close(self) -> None:
        """Waits until the queues are written, at most a second in all."""
        until = time.monotonic() + CLOSE_SECONDS
        self.stdout.close(until)
        error = self.stdout.error
        if error is not None and error.errno != errno.EPIPE:
            self.error(f"standard output could not be written: {error.strerror}")
        self.stderr.close(until)
