"""Stopping a run from another process: the named pipe `control` in the run's folder.

The pipe exists while a run is going. Each byte written to it is one `interrupt()`, whatever its
value. After two bytes no more are read, so a process that may write here can do nothing but stop
the run. Tools do not see run folders, and only the owner of a run folder may enter it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from sandbox_agent_ipc.after_fork import call_after_fork
from sandbox_agent_ipc.shortage import explained, start_thread

from sandbox_agent.embedding.warn import complain

CONTROL_PIPE = "control"

ENOUGH = 2
"""Interrupts that have an effect: the first stops the run, the second skips the grace period."""
_JOIN_LIMIT = 1.0
"""Seconds that `close` waits for the thread, which may be in a callback of a token."""


class Control:
    """The run's end of the pipe. interrupt: called for each byte, in a thread of this object.

    It needs a thread, because the embedding program may block the event loop. The pipe is opened
    for writing too: so there is no end of file when a writer closes its end. Raises OSError if the
    pipe cannot be made, RuntimeError if the thread cannot be started.
    """

    def __init__(self, folder: Path, interrupt: Callable[[], object]) -> None:
        self._path = folder / CONTROL_PIPE
        self._interrupt = interrupt
        # Each list holds at most one entry. `list.pop` is atomic, so exactly one place takes the
        # entry and closes it, whatever signal handler or thread comes in between. `_for_thread`:
        # the pipe and the eventfd that ends the thread. `_stop`: a duplicate to write to it.
        self._for_thread: list[tuple[int, int]] = []
        self._stop: list[int] = []
        self._descriptors: list[int] = []
        self._thread = threading.Thread(
            target=self._listen, name="sandbox-agent control", daemon=True
        )
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)  # An agent that was killed leaves its pipe.
        os.mkfifo(self._path, 0o600)
        try:
            pipe = self._hold(os.open(self._path, os.O_RDWR | _QUIETLY))
            stopped = self._hold(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
            stop = self._hold(os.dup(stopped))
            self._for_thread.append((pipe, stopped))
            self._stop.append(stop)
            call_after_fork(self)
            start_thread(self._thread)
        except BaseException:
            if self._stop:
                self.close()  # A signal handler raised. The thread may be running.
            else:
                self.after_fork_in_child()
                self._remove()
            raise

    def close(self) -> None:
        """Remove the pipe, which wakes `wait_until_over` at its other end. Idempotent."""
        try:
            stop = self._stop.pop()
        except IndexError:
            return
        self._remove()
        os.eventfd_write(stop, 1)
        self._close(stop)
        with contextlib.suppress(IndexError):  # Taken by the thread, which closes them itself.
            self._close(*self._for_thread.pop())
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_LIMIT)

    def after_fork_in_child(self) -> None:
        """Close the descriptors. The child has no thread that would."""
        self._stop.clear()
        self._for_thread.clear()
        self._close(*self._descriptors)

    def _hold(self, descriptor: int) -> int:
        self._descriptors.append(descriptor)
        return descriptor

    def _close(self, *descriptors: int) -> None:
        for descriptor in descriptors:
            self._descriptors.remove(descriptor)
            os.close(descriptor)

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _listen(self) -> None:
        try:
            pipe, stopped = self._for_thread.pop()
        except IndexError:
            return  # Closed before the thread began.
        poller = select.poll()
        poller.register(stopped, select.POLLIN)
        poller.register(pipe, select.POLLIN)
        interrupts = 0
        try:
            while stopped not in (ready := [fd for fd, _ in poller.poll()]):
                if pipe not in ready:
                    continue
                for _ in os.read(pipe, ENOUGH - interrupts):
                    interrupts += 1
                    self._call_interrupt()
                if interrupts >= ENOUGH:
                    poller.unregister(pipe)  # Else a flood of bytes would keep this thread busy.
        finally:
            self._close(pipe, stopped)

    def _call_interrupt(self) -> None:
        try:
            self._interrupt()
        except BaseException as error:
            # Most likely a callback of the run token called sys.exit(). The run is stopped all the
            # same, and the second interrupt must still have its effect.
            complain(f"a callback of the run's token raised {error!r}")


def listen(folder: Path, interrupt: Callable[[], object]) -> Control | None:
    """Make a Control. Returns None, with a warning, if the disk has no named pipes or no thread can
    be started: the run goes on without it."""
    try:
        return Control(folder, interrupt)
    except (OSError, RuntimeError) as error:
        complain(f"`sandbox-agent cancel` cannot reach this run: {explained(error)}")
        return None


_QUIETLY = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW


def request_interrupt(folder: Path) -> int | None:
    """Interrupt the run of `folder`, once. Returns a descriptor for `wait_until_over`, which the
    caller closes; None if no run is going there.

    Raises OSError when this user may not write to the pipe.
    """
    try:
        pipe = os.open(folder / CONTROL_PIPE, os.O_WRONLY | _QUIETLY)
    except OSError as error:
        # No pipe; a pipe that a killed agent left; something else of that name.
        if error.errno in (errno.ENOENT, errno.ENXIO, errno.ELOOP, errno.EISDIR, errno.ENOTDIR):
            return None
        raise
    try:
        if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
            os.close(pipe)
            return None
        # The pipe is full if others wrote enough interrupts. It is broken if the run just ended.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(pipe, b"i")
    except BaseException:
        os.close(pipe)
        raise
    return pipe


def wait_until_over(pipe: int, timeout: float | None) -> bool:
    """Block until the run has written its record, or its agent has died. Returns False when
    `timeout` seconds were not enough. A pipe that has lost its last reader is in error: poll(2)."""
    poller = select.poll()
    poller.register(pipe, 0)
    return bool(poller.poll(None if timeout is None else timeout * 1000))
