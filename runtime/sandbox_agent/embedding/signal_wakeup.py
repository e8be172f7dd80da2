"""Every signal wakes the event loop of a run, so that its handler runs at once.

Python runs a handler in the main thread, between two steps of the interpreter. A signal that comes
after the last step before epoll_wait(2), or that the kernel delivers to another thread, interrupts
nothing. Its handler would run with the loop's next event, perhaps minutes later. So each signal
writes a byte for the loop to read; see signal.set_wakeup_fd.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_NONE = -1


class _Wakeup:
    """The wake-up pipe of one loop, for all runs in it.

    stale: a wake-up descriptor that may be replaced. users: how many runs are going. fd: what
    signals write to. It is -1 if there is a wake-up descriptor already, most likely that of
    asyncio's `add_signal_handler`, which wakes the loop as well.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, stale: int) -> None:
        self.loop = loop
        self.users = 0
        self._read, self.fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        loop.add_reader(self._read, self._drain)
        _made[self.fd] = self
        before = signal.set_wakeup_fd(self.fd, warn_on_full_buffer=False)
        of_another_loop = before in _made and not _made[before].loop.is_running()
        if before not in (_NONE, stale) and not of_another_loop:
            signal.set_wakeup_fd(before)
            self.close()

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._read, 4096)

    def close(self) -> None:
        if self.fd == _NONE:
            return
        with suppress(ValueError):  # Collected in another thread, after its loop was closed.
            now = signal.set_wakeup_fd(_NONE)
            if now != self.fd:
                signal.set_wakeup_fd(now)  # Another descriptor was installed since.
        _made.pop(self.fd, None)
        self.loop.remove_reader(self._read)
        os.close(self._read)
        os.close(self.fd)
        self.fd = _NONE


_made: dict[int, _Wakeup] = {}
"""Those that were not closed, by their descriptors. What a signal handler raises in here may leave
one installed whose loop has ended."""


def is_of_a_run(fd: int) -> bool:
    """Whether a wake-up descriptor is one that a run has installed here."""
    return fd in _made


def put_back(fd: int, *, was_of_a_run: bool) -> None:
    """Install a wake-up descriptor that was replaced, unless it was closed since: its number may be
    another file's. was_of_a_run: what `is_of_a_run` said of it then."""
    try:
        signal.set_wakeup_fd(_NONE if was_of_a_run and fd not in _made else fd)
    except (OSError, ValueError):
        signal.set_wakeup_fd(_NONE)


_current: _Wakeup | None = None
"""A process has one wake-up descriptor, and several runs may be going."""


@contextmanager
def signals_wake_the_loop() -> Iterator[None]:
    """While this is entered, each signal wakes the running loop. Does nothing outside the main
    thread, where no signal handler runs."""
    global _current
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    if _current is None or _current.loop is not loop:
        # What another loop left behind belongs to the process that this one was forked from.
        stale = _NONE if _current is None else _current.fd
        _current = None
        with suppress(OSError):  # No descriptor is left. The run meets that error and records it.
            _current = _Wakeup(loop, stale)
    mine = _current
    if mine is None:
        yield
        return
    mine.users += 1
    try:
        yield
    finally:
        mine.users -= 1
        if not mine.users:
            mine.close()
            if _current is mine:
                _current = None
