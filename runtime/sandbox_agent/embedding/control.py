"""How somebody in another process stops a run: a named pipe, `control`, in its folder.

There while a run is going. Each byte written to it is one `interrupt()`, whatever the byte is, and
after two there is nothing more to ask for: whoever may write here can do no more than stop the
run. Tools do not see run folders, and nobody but their owner may enter one.
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

from sandbox_agent.embedding.warn import complain

FILE_NAME = "control"

ENOUGH = 2
"""Interrupts that mean something: the first stops, the second hurries."""
_PATIENCE = 1.0
"""Seconds that the listener may take to end. It can be in a callback of somebody's token."""


class Control:
    """The run's end of the pipe. interrupt: called in a thread of ours, for each byte.

    A thread, because the event loop may be blocked by whoever embeds us. It opens the pipe for
    writing too, so that there is no end of file when a writer leaves. Raises OSError where no pipe
    can be made, RuntimeError where no thread can be started.
    """

    def __init__(self, folder: Path, interrupt: Callable[[], object]) -> None:
        self._path = folder / FILE_NAME
        self._interrupt = interrupt
        # Taken by one step of the interpreter, so whatever comes in between: whoever takes it
        # closes it. `_ends`, (pipe, ear), are the thread's; `_bells` has what wakes that ear.
        self._ends: list[tuple[int, int]] = []
        self._bells: list[int] = []
        self._descriptors: list[int] = []
        self._thread = threading.Thread(
            target=self._listen, name="sandbox-agent control", daemon=True
        )
        with contextlib.suppress(FileNotFoundError):  # of an agent that was killed
            os.unlink(self._path)
        os.mkfifo(self._path, 0o600)
        try:
            pipe = self._hold(os.open(self._path, os.O_RDWR | _QUIETLY))
            ear = self._hold(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
            bell = self._hold(os.dup(ear))
            self._ends.append((pipe, ear))
            self._bells.append(bell)
            call_after_fork(self)
            self._thread.start()
        except BaseException:
            if self._bells:
                self.close()  # A signal handler raised, and the thread may have begun.
            else:
                self.after_fork_in_child()
                self._remove()
            raise

    def close(self) -> None:
        """Remove the pipe. Whoever waits at the other end wakes. Closing twice is fine."""
        try:
            bell = self._bells.pop()
        except IndexError:
            return
        self._remove()
        os.eventfd_write(bell, 1)
        self._let_go(bell)
        with contextlib.suppress(IndexError):  # of a thread that has begun: it sees to them itself
            self._let_go(*self._ends.pop())
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_PATIENCE)

    def after_fork_in_child(self) -> None:
        """Close the descriptors. The child has no thread that would."""
        self._bells.clear()
        self._ends.clear()
        self._let_go(*self._descriptors)

    def _hold(self, descriptor: int) -> int:
        self._descriptors.append(descriptor)
        return descriptor

    def _let_go(self, *descriptors: int) -> None:
        for descriptor in descriptors:
            self._descriptors.remove(descriptor)
            os.close(descriptor)

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _listen(self) -> None:
        try:
            pipe, ear = self._ends.pop()
        except IndexError:
            return  # Closed before it began.
        poller = select.poll()
        poller.register(ear, select.POLLIN)
        poller.register(pipe, select.POLLIN)
        heeded = 0
        try:
            while ear not in (ready := [fd for fd, _ in poller.poll()]):
                if pipe not in ready:
                    continue
                for _ in os.read(pipe, ENOUGH - heeded):
                    heeded += 1
                    self._heed()
                if heeded >= ENOUGH:
                    poller.unregister(pipe)  # or a flood of bytes would keep this thread busy
        finally:
            self._let_go(pipe, ear)

    def _heed(self) -> None:
        try:
            self._interrupt()
        except BaseException as error:
            # A callback of the run's token called sys.exit(), most likely. The run is stopped all
            # the same, and the second interrupt is to be heard.
            complain(f"a callback of the run's token raised {error!r}")


def listen(folder: Path, interrupt: Callable[[], object]) -> Control | None:
    """A Control; None, with a warning, on a disk that knows no named pipes or where no thread can
    be started: no reason to fail."""
    try:
        return Control(folder, interrupt)
    except (OSError, RuntimeError) as error:
        complain(f"`sandbox-agent cancel` cannot reach this run: {error}")
        return None


_QUIETLY = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW


def request_interrupt(folder: Path) -> int | None:
    """Interrupt the run of `folder`, once. Returns a descriptor for `wait_until_over`, which the
    caller closes; None when nobody listens, so that no run is going there.

    Raises OSError when the pipe is not ours to write to.
    """
    try:
        door = os.open(folder / FILE_NAME, os.O_WRONLY | _QUIETLY)
    except OSError as error:
        # No pipe; one that a killed agent left; something else of that name.
        if error.errno in (errno.ENOENT, errno.ENXIO, errno.ELOOP, errno.EISDIR, errno.ENOTDIR):
            return None
        raise
    try:
        if not stat.S_ISFIFO(os.fstat(door).st_mode):
            os.close(door)
            return None
        # Full: whoever should read has been told often enough. Broken: it left this very moment.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(door, b"i")
    except BaseException:
        os.close(door)
        raise
    return door


def wait_until_over(door: int, timeout: float | None) -> bool:
    """Block until the run has written its record, or its agent has died. False when `timeout`
    seconds were not enough. The kernel tells: a pipe without readers is in error, poll(2)."""
    poller = select.poll()
    poller.register(door, 0)
    return bool(poller.poll(None if timeout is None else timeout * 1000))
