"""The outside observer: what is running, as /proc tells it. Uses none of the project's code.

What a tool starts is marked by a random text in its argument vector (`sleep 300.83551...`), which
shows on the host in /proc/PID/cmdline whatever namespaces the process lives in. The pids that a
tool writes down are those of its own pid namespace; NSpid in /proc/PID/status joins the two.
Zombies do not count: they have ended, and somebody else has to reap them. A process whose first
thread alone has ended looks like one, and has more threads.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Process:
    """A live process. namespace_pids: its pid in every namespace, outermost first."""

    pid: int
    parent: int
    namespace_pids: tuple[int, ...]
    command: str
    start: int
    """Clock ticks since boot; with the pid it tells a process from a later one of that number."""
    name: str = field(default="", compare=False)
    """What it calls itself (PR_SET_NAME), or the file that it executes. It may change."""


def new_mark() -> str:
    """Digits that occur nowhere else, so that they can be the fraction in `sleep 300.<mark>`."""
    return str(10**15 + secrets.randbelow(9 * 10**15))


def state(pid: int) -> str:
    """The letter of its state, such as T for stopped; X when it is gone. proc_pid_stat(5)"""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def look(pid: int) -> Process | None:
    """The process, or None when it has ended or is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
        with open(f"/proc/{pid}/status", "rb") as file:
            status = file.read()
    except OSError:  # ENOENT and ESRCH: it ended while we looked
        return None
    # The name in parentheses may itself hold blanks and parentheses; fields count from the last.
    name, _, rest = stat.partition(b"(")[2].rpartition(b")")
    fields = rest.split()
    if fields[0] in (b"Z", b"X") and int(fields[17]) < 2:
        return None
    command = b" ".join(words).decode(errors="replace").strip()
    nspid: tuple[int, ...] = (pid,)
    for line in status.splitlines():
        if line.startswith(b"NSpid:"):
            nspid = tuple(int(word) for word in line.split()[1:])
    return Process(
        pid=pid,
        parent=int(fields[1]),
        namespace_pids=nspid,
        command=command or f"[{name.decode(errors='replace')}]",
        start=int(fields[19]),
        name=name.decode(errors="replace"),
    )


def everything() -> list[Process]:
    """All live processes that this process's /proc shows."""
    found = (look(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in found if process is not None]


def marked(mark: str) -> list[Process]:
    """All live processes with the mark in their arguments."""
    return [process for process in everything() if mark in process.command]


def descendants(root: int) -> list[Process]:
    """All live processes below root, parents before children."""
    try:
        return [process for pid in _pids_below(root) if (process := look(pid)) is not None]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return _descendants_of_everything(root)


def _pids_below(root: int) -> list[int]:
    """The pids of all processes below root, zombies too, parents before children.

    A child that ends while its parent's list is read can hide the child after it
    (proc_pid_task_tid_children(5)). So the tree is read until two readings agree.
    """
    found = _read_pids_below(root)
    while (again := _read_pids_below(root)) != found:
        found = again
    return found


def _read_pids_below(root: int) -> list[int]:
    found: list[int] = []
    queue = [root]
    while queue:
        below = _children(queue.pop(0))
        found += below
        queue += below
    return found


def _children(pid: int) -> list[int]:
    """The children of every thread of a process; none if it has ended."""
    folder = f"/proc/{pid}/task"
    found: list[int] = []
    try:
        threads = os.listdir(folder)
    except OSError:  # ENOENT and ESRCH: it ended while we looked
        return found
    for thread in threads:
        try:
            with open(f"{folder}/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
        except OSError:  # the thread has ended, and its children belong to another one
            if os.path.exists(f"{folder}/{thread}/stat"):
                raise
    return found


def _descendants_of_everything(root: int) -> list[Process]:
    children: dict[int, list[Process]] = {}
    for process in everything():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += [process.pid for process in below]
    return found


@contextlib.contextmanager
def watching(processes: Iterable[Process]) -> Iterator[dict[int, Process]]:
    """pidfds of the processes, for `wait_gone`. Those that have ended already are left out."""
    handles: dict[int, Process] = {}
    try:
        for process in processes:
            try:
                handle = os.pidfd_open(process.pid)
            except ProcessLookupError:
                continue
            now = look(process.pid)
            if now is None or now.start != process.start:
                os.close(handle)
                continue
            handles[handle] = process
        yield handles
    finally:
        for handle in handles:
            os.close(handle)


def wait_gone(handles: dict[int, Process], timeout: float) -> tuple[float, list[Process]]:
    """Waits until every watched process has ended (a pidfd is readable from the zombie on).

    Returns the seconds that it took and who is left when `timeout` seconds were over.
    """
    begin = time.monotonic()
    poller = select.poll()
    waiting = dict(handles)
    for handle in waiting:
        poller.register(handle, select.POLLIN)
    while waiting:
        left = begin + timeout - time.monotonic()
        if left <= 0:
            break
        for handle, _ in poller.poll(left * 1000):
            poller.unregister(handle)
            del waiting[handle]
    return time.monotonic() - begin, list(waiting.values())


def left_by_killed(
    agent: subprocess.Popen[bytes], family: Iterable[Process], *, stopped: bool
) -> list[Process]:
    """SIGKILL to an agent. Who of its family is alive a quarter of a second later. stopped: all of
    them are stopped before, from below."""
    family = list(family)
    with watching(family) as handles:
        for one in reversed(family) if stopped else ():
            os.kill(one.pid, signal.SIGSTOP)
        agent.kill()
        _, left = wait_gone(handles, 0.25 + patience())
    return left


def patience() -> float:
    """How much longer than a bound something may take here: a machine that has more to do than it
    has processors takes longer. `scripts/bench` measures it where nothing else runs."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1) * 2)


def eventually(look: Callable[[], T], timeout: float) -> T:
    """The first true thing that `look` returns, asked every 2 ms until `timeout` seconds are over.

    For what announces itself to nobody, such as an exec or a line in somebody's file. Everything
    else is better waited for by its own event.
    """
    deadline = time.monotonic() + timeout
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {timeout} s: {look}")
        select.select([], [], [], 0.002)
    return found
