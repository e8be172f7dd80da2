"""The processes that a test leaves behind.

While a test is watched, its process is a subreaper (prctl(2), PR_SET_CHILD_SUBREAPER): a daemon or
a double fork stays below it in the process tree, where it is found, and nothing that other people
run is taken for the test's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import time
from collections.abc import Iterator

import psutil

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37

PATIENCE = 2.0
"""Seconds that a process which is about to end may take after the test."""

_STANDING = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Helpers that Python starts once for a whole program, and that end with it."""


class ProcessWatch:
    """Watches the processes below this one, from its making to `end()`."""

    def __init__(self) -> None:
        self._was_subreaper = _is_subreaper()
        _be_subreaper(True)
        self._known = set(_below())

    @contextlib.contextmanager
    def adopting(self) -> Iterator[None]:
        """What starts in this block belongs to somebody else, such as a fixture of the session."""
        before = set(_below())
        try:
            yield
        finally:
            self._known |= set(_below()) - before

    def end(self, patience: float = PATIENCE) -> list[str]:
        """Ends, and names, the processes that are left after `patience` seconds: one line each."""
        try:
            left = self._left_after(patience)
            lines = [_line(process) for process in left]
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            deadline = time.monotonic() + PATIENCE
            while (going := [one for one in left if one in _below()]) and (
                time.monotonic() < deadline
            ):
                _wait_for_one(going, max(0.0, deadline - time.monotonic()))
            return lines
        finally:
            _be_subreaper(self._was_subreaper)

    def _left_after(self, patience: float) -> list[psutil.Process]:
        deadline = time.monotonic() + patience
        while left := [one for one in _below() if one not in self._known and not _stands(one)]:
            if time.monotonic() >= deadline:
                break
            # Looked at anew each time: one that ends may have started another before.
            _wait_for_one(left, max(0.0, deadline - time.monotonic()))
        return left


def _below() -> list[psutil.Process]:
    """The live processes below this one. A zombie has ended, and waits for its parent.

    The tree is read until two readings agree: a process that forks and ends between the listing of
    /proc and the look at it would hide its child.
    """
    found = _look_below()
    while (again := _look_below()) != found:
        found = again
    return [process for process, is_alive in found.items() if is_alive]


def _look_below() -> dict[psutil.Process, bool]:
    """All processes below this one, and whether each of them is alive."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            found[process] = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            found[process] = False
    return found


def _wait_for_one(processes: list[psutil.Process], limit: float) -> None:
    """Until one of them has ended, at most `limit` seconds. By pidfd, so that nothing is reaped: a
    `Popen` of the test keeps its exit status. pidfd_open(2)"""
    poll = select.poll()
    with contextlib.ExitStack() as held:
        for process in processes:
            try:
                end = os.pidfd_open(process.pid)
            except ProcessLookupError:  # it has ended
                return
            held.callback(os.close, end)
            poll.register(end, select.POLLIN)
        poll.poll(limit * 1000)


def _stands(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(name in word for word in process.cmdline() for name in _STANDING)
    return False


def _line(process: psutil.Process) -> str:
    """What a person recognises a process by; ours have a name that their command does not show."""
    name, words = "?", []
    with contextlib.suppress(psutil.Error):
        name = process.name()
        words = process.cmdline()
    if name.startswith("sandbox-"):
        return f"process {process.pid}: {name}, of a Conversation or Sandbox that is not closed"
    return f"process {process.pid}: {' '.join(words)[:200] or f'[{name}]'}"


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _is_subreaper() -> bool:
    value = ctypes.c_int()
    if _libc().prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(value), 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_GET_CHILD_SUBREAPER): {os.strerror(number)}")
    return bool(value.value)


def _be_subreaper(on: bool) -> None:
    if _libc().prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(number)}")
