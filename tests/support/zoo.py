"""Kinds of processes that are hard to end. Runs as a program of its own, inside: zoo.py KIND.

Each kind prints "up" once it is what its name says, and stays. Uses nothing of ours.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable

libc = ctypes.CDLL(None, use_errno=True)
CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine(), -1)
CLONE_PARENT, CLONE_VM, CLONE_VFORK = 0x8000, 0x100, 0x4000
TRACEME, ATTACH, SET_OPTIONS, EXIT_STOP = 0, 16, 0x4200, 0x40
SUBREAPER, DUMPABLE = 36, 4


def up() -> None:
    print("up", flush=True)


def stay() -> None:
    while True:
        signal.pause()


def fork(child: Callable[[], object] = stay) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            child()
        finally:
            os._exit(0)
    return pid


def clone(flags: int) -> int:
    pid: int = libc.syscall(ctypes.c_long(CLONE), ctypes.c_ulong(flags), 0, 0, 0, 0)
    return pid


def twice(child: Callable[[], object] = stay) -> None:
    """A double fork: the child's parent ends at once."""

    def middle() -> None:
        os.setsid()
        fork(child)

    os.waitpid(fork(middle), 0)


def spread() -> None:
    """Half of them double-forked, half of them stopped."""
    for number in range(60):
        if number % 2:
            twice(lambda: os.kill(os.getpid(), signal.SIGSTOP))
        else:
            pid = fork()
            if number % 4:
                os.kill(pid, signal.SIGSTOP)


def deaf() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    twice()


def closed() -> None:
    """Without a descriptor, an environment, a parent, and shut to others."""

    def child() -> None:
        libc.prctl(DUMPABLE, 0, 0, 0, 0)
        os.closerange(0, 1000)
        stay()

    twice(child)


def comets(*, session: bool) -> None:
    """They fork and exit for ever."""

    def comet() -> None:
        while True:
            try:
                if os.fork():
                    os._exit(0)
            except OSError:
                pass
            if session:
                os.setsid()

    for _ in range(20):
        fork(comet)


def raw_comets() -> None:
    def comet() -> None:
        while True:
            if clone(int(signal.SIGCHLD)) > 0:
                os._exit(0)

    for _ in range(10):
        fork(comet)


def bomb() -> None:
    for _ in range(100):
        fork(lambda: [fork() for _ in range(2)])


def of_the_parent() -> None:
    """Children of the parent, which asks for another signal at their end."""
    for exit_signal in (0, signal.SIGKILL, signal.SIGUSR2):
        if clone(CLONE_PARENT | int(exit_signal)) == 0:
            stay()
        if clone(int(exit_signal)) == 0:
            stay()


def held_vfork() -> None:
    """Its parent waits in vfork(2), and cannot be woken but by SIGKILL."""

    def child() -> None:
        if clone(CLONE_VM | CLONE_VFORK | int(signal.SIGCHLD)) == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
            stay()

    fork(child)


def traced() -> None:
    """Stopped by a tracer, and stopped at their exit by one."""
    for option in (0, EXIT_STOP):
        pid = fork()
        zero = ctypes.c_void_p(0)
        libc.ptrace(ATTACH, pid, zero, zero)
        os.waitpid(pid, 0)
        if option:
            libc.ptrace(SET_OPTIONS, pid, zero, ctypes.c_void_p(option))
            libc.ptrace(7, pid, zero, zero)
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
            libc.ptrace(7, pid, zero, ctypes.c_void_p(signal.SIGTERM))
            os.waitpid(pid, 0)


def subreapers() -> None:
    def nested(depth: int) -> None:
        libc.prctl(SUBREAPER, 1, 0, 0, 0)
        twice()
        if depth:
            fork(lambda: nested(depth - 1))
        stay()

    fork(lambda: nested(3))


def zombies() -> None:
    for _ in range(50):
        fork(lambda: os._exit(0))


def threads() -> None:
    """Threads that fork, and a process whose first thread has exited."""

    def headless() -> None:
        threading.Thread(target=stay).start()
        libc.syscall(ctypes.c_long({56: 60, 220: 93}[CLONE]), 0)

    for _ in range(8):
        threading.Thread(target=fork, daemon=True).start()
    fork(headless)


def chain() -> None:
    def link(left: int) -> None:
        if left:
            fork(lambda: link(left - 1))
        stay()

    fork(lambda: link(60))


def hoarders() -> None:
    """Each holds as many descriptors as it may."""

    def hoard() -> None:
        try:
            while True:
                os.open("/dev/null", os.O_RDONLY)
        except OSError:
            stay()

    for _ in range(20):
        fork(hoard)


KINDS: dict[str, Callable[[], object]] = {
    "spread": spread,
    "deaf": deaf,
    "closed": closed,
    "comets": lambda: comets(session=False),
    "comets with sessions": lambda: comets(session=True),
    "raw comets": raw_comets,
    "bomb": bomb,
    "of the parent": of_the_parent,
    "held vfork": held_vfork,
    "traced": traced,
    "subreapers": subreapers,
    "zombies": zombies,
    "threads": threads,
    "chain": chain,
    "hoarders": hoarders,
}

if __name__ == "__main__":
    KINDS[sys.argv[1]]()
    time.sleep(0.02)  # what it started gets a moment to become what its name says
    up()
    stay()
