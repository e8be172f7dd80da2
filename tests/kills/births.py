"""Catching a process at its birth, before it has run a single instruction. ptrace(2).

The only way to strike reliably in the milliseconds between fork and handshake. Needs root: what is
traced is not dumpable.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable

_SEIZE, _CONT, _DETACH, _EVENTMSG, _INTERRUPT = 0x4206, 7, 17, 0x4201, 0x4207
_TRACE_FORKS = 0x2 | 0x4 | 0x8  # fork, vfork, clone
_FORK_EVENTS = (1, 2, 3)
_WALL = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int, data: int = 0) -> None:
    if _libc.ptrace(request, pid, None, data) < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"ptrace({request:#x}, {pid}): {os.strerror(error)}")


class Birth(threading.Thread):
    """Follows the forks below `pid`, `generations` deep, and hands the first process of the last
    generation to `strike(pid)` at its birth. Everybody runs on untraced afterwards.

    A thread, because every request must come from the thread that traces. Use it in `with`: the
    process is traced when the block begins, and has been struck when it ends.
    """

    def __init__(self, pid: int, generations: int, strike: Callable[[int], object]) -> None:
        super().__init__(name="birth", daemon=True)
        self._pid = pid
        self._generations = generations
        self._strike = strike
        self._seized = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            _ptrace(_SEIZE, self._pid, _TRACE_FORKS)
            self._seized.set()
            pid = self._child_of(self._pid)
            for _ in range(self._generations - 1):
                _ptrace(_CONT, pid)
                pid = self._child_of(pid)
            self._strike(pid)
            self._let_go(pid)
        except BaseException as error:
            self._error = error
        finally:
            self._seized.set()

    def _child_of(self, pid: int) -> int:
        while True:
            _, status = os.waitpid(pid, _WALL)
            if not os.WIFSTOPPED(status):
                raise ChildProcessError(f"{pid} ended before it had a child: {status}")
            event = status >> 16
            if event in _FORK_EVENTS:
                break
            # A signal on its way to the process is handed on; other stops are nothing to us.
            _ptrace(_CONT, pid, 0 if event else os.WSTOPSIG(status))
        child = ctypes.c_ulong()
        if _libc.ptrace(_EVENTMSG, pid, None, ctypes.addressof(child)) < 0:
            raise OSError(ctypes.get_errno(), "PTRACE_GETEVENTMSG")
        _, status = os.waitpid(child.value, _WALL)  # stopped at birth, and traced as its parent is
        _ptrace(_DETACH, pid)
        return child.value

    def _let_go(self, pid: int) -> None:
        try:
            _ptrace(_DETACH, pid)
        except OSError:  # struck dead
            os.waitpid(pid, _WALL)

    def __enter__(self) -> Birth:
        self.start()
        self._seized.wait()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.join(20)
        if self._error is not None and error is None:
            raise self._error
        assert not self.is_alive(), "nobody was born"


def stop(pid: int) -> None:
    """SIGSTOP for a process at its birth: it stops as soon as it is let go."""
    os.kill(pid, signal.SIGSTOP)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
