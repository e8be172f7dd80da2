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

_SEIZE, _EVENTMSG, _CONT = 0x4206, 0x4201, 7
_INTERRUPT, _DETACH = 0x4207, 17
_TRACE_FORKS = 0x2 | 0x4 | 0x8  # fork, vfork, clone
_FORK_EVENTS = (1, 2, 3)
_BIRTH_EVENT = 128  # PTRACE_EVENT_STOP
_WAIT = 0x40000000 | 0x20000000  # __WALL | __WNOTHREAD: of this thread's own tracees, all

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int, data: int = 0) -> None:
    if _libc.ptrace(request, pid, None, data) < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"ptrace({request:#x}, {pid}): {os.strerror(error)}")


def _child(parent: int) -> int:
    child = ctypes.c_ulong()
    if _libc.ptrace(_EVENTMSG, parent, None, ctypes.addressof(child)) < 0:
        raise OSError(ctypes.get_errno(), "PTRACE_GETEVENTMSG")
    return child.value


class Birth(threading.Thread):
    """Follows the forks below `pid`, and hands the first process that is born `generations` below
    it to `strike(pid)`. Everybody runs on untraced afterwards.

    A thread, because every request must come from the thread that traces, and because its end sets
    free whom it traced. `with`: the process is traced when the block begins, and the strike has
    been made when it ends.
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
            self._strike(self._wait())
        except BaseException as error:
            self._error = error
        finally:
            self._seized.set()

    def _wait(self) -> int:
        depth = {self._pid: 0}
        newborn: set[int] = set()
        while True:
            pid, status = os.waitpid(-1, _WAIT)
            if not os.WIFSTOPPED(status):
                continue  # ended: some are made for a moment only
            event = status >> 16
            if event in _FORK_EVENTS:
                depth[_child(pid)] = depth[pid] + 1
            # Its first stop, before its first instruction, may be seen before its parent's fork.
            if event == _BIRTH_EVENT:
                newborn.add(pid)
            else:
                # A signal on its way to the process is handed on.
                _ptrace(_CONT, pid, 0 if event else os.WSTOPSIG(status))
            for child in [pid for pid in newborn if pid in depth]:
                newborn.remove(child)
                if depth[child] == self._generations:
                    return child
                _ptrace(_CONT, child)

    def __enter__(self) -> Birth:
        self.start()
        self._seized.wait()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.join(20)
        if self._error is not None and error is None:
            raise self._error
        assert not self.is_alive(), "nobody was born"


def hold(pid: int) -> None:
    """From `strike`, for the newborn and those above it: it does not run from now on, and the
    signals that it gets wait, as on a busy machine."""
    _ptrace(_INTERRUPT, pid)
    while True:
        _, status = os.waitpid(pid, _WAIT)
        assert os.WIFSTOPPED(status), status
        if status >> 16 == _BIRTH_EVENT:
            return
        _ptrace(_CONT, pid, 0 if status >> 16 else os.WSTOPSIG(status))


def let_go(pid: int) -> None:
    """From `strike`, for a newborn or one that is held: it runs, and is followed no more."""
    _ptrace(_DETACH, pid)


def go_on(pid: int) -> None:
    """The same, and it is followed further."""
    _ptrace(_CONT, pid)


def stop(pid: int) -> None:
    """SIGSTOP for a process at its birth: it stops as soon as it is let go."""
    os.kill(pid, signal.SIGSTOP)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
