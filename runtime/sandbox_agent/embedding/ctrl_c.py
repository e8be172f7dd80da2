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
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from sandbox_agent_ipc.after_fork import call_after_fork
from sandbox_agent_ipc.shortage import start_thread

from sandbox_agent.embedding.signal_wakeup import is_of_a_run, put_back
from sandbox_agent.errors import AgentError, StateError

T = TypeVar("T")

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
        self._thread: threading.Thread | None = None
        self._ident = threading.get_ident()
        self._read = self._write = _NONE
        # The end to read from, until one place takes it and closes it. `list.pop` is atomic.
        self._for_thread: list[int] = []
        self._before: int | None = None
        self._was_of_a_run = False

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return self
        if signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
            return self
        self._guards = True
        try:
            signal.signal(signal.SIGINT, self._handle)
            self._start_thread()
        except (OSError, RuntimeError):
            # No descriptor or thread is left: the handler does what it can, in the main thread.
            self._stop_thread()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        except BaseException:
            self._leave()  # another handler of the program raised
            raise
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
        if self._guards:
            self._leave()

    def after_fork_in_child(self) -> None:
        """A child has no thread that would take the signal."""
        if not self._guards or self._write == _NONE:
            return
        self._guards = False
        put_back(_NONE if self._before is None else self._before, was_of_a_run=self._was_of_a_run)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if threading.get_ident() == self._ident:  # another thread has its own mask
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        read, write, self._read, self._write = self._read, self._write, _NONE, _NONE
        os.close(read)
        os.close(write)

    def _leave(self) -> None:
        self._guards = False
        try:
            self._stop_thread()
        finally:  # another handler of the program may raise
            # This calls our handler for what is pending. The other order could raise in between.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _start_thread(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        self._for_thread.append(self._read)
        os.set_blocking(self._write, False)
        self._thread = threading.Thread(
            target=self._watch, name="sandbox-agent ctrl-c", daemon=True
        )
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        start_thread(self._thread)
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._was_of_a_run = is_of_a_run(self._before)
        call_after_fork(self)

    def _stop_thread(self) -> None:
        """Undoes `_start_thread`, however far that came."""
        if self._before is not None:
            # First: from here on a signal calls the handler. Those before it are read.
            put_back(self._before, was_of_a_run=self._was_of_a_run)
        thread, self._thread = self._thread, None
        if self._write == _NONE:
            return
        os.write(self._write, bytes([_END]))
        if thread is not None and thread.is_alive():
            thread.join()
        with suppress(IndexError):  # Taken by the thread, which closes it itself.
            os.close(self._for_thread.pop())
        write, self._write = self._write, _NONE
        os.close(write)

    def _watch(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals() - {signal.SIGINT})
        try:
            read = self._for_thread.pop()
        except IndexError:
            return  # Stopped before it began.
        try:
            while _END not in (numbers := os.read(read, 64)):
                self._act_on(numbers)
            self._act_on(numbers.partition(bytes([_END]))[0])
        finally:
            os.close(read)

    def _act_on(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGINT:
                self._take()
            self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        """To the loop, and to the program's own wake-up descriptor."""
        if self._loop is not None:
            with suppress(RuntimeError):  # The loop is closed.
                self._loop.call_soon_threadsafe(_nothing)
        if self._before not in (None, _NONE):
            with suppress(OSError):
                os.write(self._before, bytes([number]))

    def _take(self) -> None:
        with self._lock:
            self.pressed = True
            self._delivered = self._interrupt() or self._delivered

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """In the main thread, perhaps much later. If the signal went to our pipe, it has been
        taken."""
        if self._write == _NONE:
            self._take()
            return
        now = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        if now != self._write:
            signal.set_wakeup_fd(now)  # Another one was installed since, or the end has begun.
            self._take()


def run_blocking(
    name: str,
    instead: str,
    work: Callable[[], Coroutine[Any, Any, T]],
    interrupt: Callable[[], bool],
) -> T:
    """Run `work` to its end in an event loop of its own, in this thread, under `CtrlC`.

    name: of the function that blocks, for messages. instead: what to write in a program with an
    event loop. Raises KeyboardInterrupt after Ctrl-C, when all has stopped; StateError where an
    event loop is running.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise StateError(
            f"{name} was called in a thread whose event loop is running, which it would block; "
            f"{instead} there"
        )
    with CtrlC(interrupt) as ctrl_c, asyncio.Runner() as runner:
        try:
            result = runner.run(_under(ctrl_c, work))
        except AgentError as error:
            if ctrl_c.pressed:
                raise KeyboardInterrupt from error
            raise
    if ctrl_c.pressed:
        raise KeyboardInterrupt
    return result


async def _under(ctrl_c: CtrlC, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """`work`, where Ctrl-C may have been pressed before there was something to interrupt."""
    loop = asyncio.get_running_loop()
    # A run is made without a turn of the loop, so this comes first once there is one.
    loop.call_soon(ctrl_c.wake, loop)
    return await work()


def _nothing() -> None:
    pass
