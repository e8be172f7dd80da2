"""Ctrl-C during a blocking `run()`.

Python runs signal handlers in the main thread, and that may be inside a system call that does not
return, such as a write to a disk that hangs. So while `run()` is going the main thread blocks
SIGINT, and a thread of ours does not. The kernel gives the signal to that thread, or to another one
of the program, and either of them writes its number to the wake-up pipe, at once: in C, before any
Python code. See signal.set_wakeup_fd. The thread reads the pipe.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Self

from sandbox_agent_ipc.after_fork import call_after_fork

_NONE = -1
_END = 0
"""What ends the thread. There is no signal 0."""


class CtrlC:
    """While this is entered, SIGINT calls `interrupt` instead of raising KeyboardInterrupt.

    Only in the main thread, and only if Python's own handler is in place and SIGINT is not blocked:
    what you did with SIGINT stays. At the end everything is as it was. asyncio.Runner installs no
    handler of its own then. Its handler would raise KeyboardInterrupt at the second Ctrl-C, in the
    middle of stopping.

    interrupt: for any thread; returns whether there was something to interrupt. pressed: whether
    SIGINT came.
    """

    def __init__(self, interrupt: Callable[[], bool]) -> None:
        self._interrupt = interrupt
        self.pressed = False
        self._delivered = False
        self._lock = threading.RLock()  # The handler may come while its own thread holds it.
        self._guards = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._read = self._write = self._before = _NONE
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        if (
            signal.SIGINT in blocked
            or signal.getsignal(signal.SIGINT) != signal.default_int_handler
        ):
            return self
        self._guards = True
        signal.signal(signal.SIGINT, self._handle)
        # No descriptor or thread is left: then the handler does what it can, in the main thread.
        with suppress(OSError, RuntimeError):
            self._start_thread()
        return self

    def wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on every signal wakes `loop`, so that its handler runs at once; and a Ctrl-C
        that came before there was a run is delivered. See `signal_wakeup`."""
        self._loop = loop
        with self._lock:
            if self.pressed and not self._delivered:
                self._delivered = self._interrupt()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._guards:
            return
        try:
            if self._thread is not None:
                # In this order: from here on a signal calls the handler. Those before are read.
                signal.set_wakeup_fd(self._before)
                os.write(self._write, bytes([_END]))
                self._thread.join()
                self._close_pipe()
        finally:  # another handler of the program may raise
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def after_fork_in_child(self) -> None:
        """A child has no thread that would take the signal."""
        if self._thread is not None:
            signal.set_wakeup_fd(_NONE)
            self._close_pipe()
            self._guards = False
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def _start_thread(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._write, False)
        thread = threading.Thread(target=self._watch, name="sandbox-agent ctrl-c", daemon=True)
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            thread.start()
        except BaseException:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            self._close_pipe()
            raise
        self._thread = thread
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        call_after_fork(self)

    def _close_pipe(self) -> None:
        self._thread = None
        os.close(self._read)
        os.close(self._write)

    def _watch(self) -> None:
        others = signal.valid_signals() - {signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_SETMASK, others)
        while True:
            for number in os.read(self._read, 64):
                if number == _END:
                    return
                if number == signal.SIGINT:
                    self._take()
                self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        """To the loop, and to the program's own wake-up descriptor."""
        if self._loop is not None:
            with suppress(RuntimeError):  # The loop is closed.
                self._loop.call_soon_threadsafe(_nothing)
        if self._before != _NONE:
            with suppress(OSError):
                os.write(self._before, bytes([number]))

    def _take(self) -> None:
        with self._lock:
            self.pressed = True
            self._delivered = self._interrupt() or self._delivered

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """In the main thread, perhaps much later. If the signal went to our pipe, it has been
        taken."""
        if self._thread is None:
            self._take()
            return
        now = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        if now != self._write:
            signal.set_wakeup_fd(now)  # Another one was installed since, or the end has begun.
            self._take()


def _nothing() -> None:
    pass
