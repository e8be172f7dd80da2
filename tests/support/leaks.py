"""What a test left behind: processes, mounts, descriptors, threads, temporary files, and signals
that are blocked or handled in another way than before.

The test process is made a subreaper (prctl(2)): whatever a test starts, daemons and double forks
too, stays below it in the process tree, and nothing that other people run is mistaken for ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import observer

CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE, MS_SHARED = 0x4000, 1 << 18, 1 << 20
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 5.0
"""Seconds that an ending process or thread may take after its test is over."""


def become_subreaper() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


_mounts_are_ours = False


def have_own_mounts() -> None:
    """Leaves the mount namespace that others mount in at any moment: what is new there would be
    taken for ours. Who may not do that may not mount either. Shared again within its own, as on
    most hosts, so that what a sandbox lets out of its walls shows. mount_namespaces(7)"""
    global _mounts_are_ours
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        return
    for kind in (MS_PRIVATE, MS_SHARED):
        if libc.mount(b"none", b"/", None, MS_REC | kind, None):
            error = ctypes.get_errno()
            raise OSError(error, f"the propagation of mounts: {os.strerror(error)}")
    _mounts_are_ours = True


def become_dumpable() -> None:
    """What holds keys ceases to be (see ModelProcess), and then may not even list what is its own
    in /proc/self."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of this very listing
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _mounts() -> frozenset[str]:
    if not _mounts_are_ours:
        return frozenset()
    # By id and mount point; the options may change without a mount having been made.
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return frozenset(f"{line.split()[0]} {line.split()[4]}" for line in lines)


def _temporary() -> frozenset[str]:
    # pytest's own folder holds what tests made through `tmp_path`; pytest removes it.
    names = os.listdir(tempfile.gettempdir())
    return frozenset(name for name in names if not name.startswith("pytest-of-"))


_SIGNALS = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGWINCH),
    *(signal.SIGCONT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
)
"""Those that people and programs send. Later tests' commands would inherit that one is ignored."""


@dataclass(frozen=True)
class Signals:
    """How the main thread takes signals."""

    blocked: set[int]
    handlers: dict[signal.Signals, Any]

    @classmethod
    def take(cls) -> Signals:
        handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        return cls(signal.pthread_sigmask(signal.SIG_BLOCK, ()), handlers)

    def restore(self) -> list[str]:
        """Puts them back, and names those that were not as before."""
        now = Signals.take()
        signal.pthread_sigmask(signal.SIG_SETMASK, self.blocked)
        found = [f"{signal.Signals(one).name} blocked" for one in now.blocked - self.blocked]
        for number, handler in self.handlers.items():
            if now.handlers[number] != handler:
                found.append(f"{number.name} with the handler {now.handlers[number]}")
                signal.signal(number, handler)
        return sorted(found)


@dataclass(frozen=True)
class Snapshot:
    processes: frozenset[tuple[int, int]]
    mounts: frozenset[str]
    descriptors: dict[int, str]
    threads: frozenset[threading.Thread]
    temporary: frozenset[str]
    signals: Signals

    @classmethod
    def take(cls) -> Snapshot:
        below = observer.descendants(os.getpid())
        return cls(
            processes=frozenset((process.pid, process.start) for process in below),
            mounts=_mounts(),
            descriptors=_descriptors(),
            threads=frozenset(threading.enumerate()),
            temporary=_temporary(),
            signals=Signals.take(),
        )

    def new_processes(self) -> list[observer.Process]:
        below = observer.descendants(os.getpid())
        return [one for one in below if (one.pid, one.start) not in self.processes]

    def new_descriptors(self) -> list[str]:
        now = _descriptors()
        return [
            f"descriptor {number} -> {target}"
            for number, target in now.items()
            if self.descriptors.get(number) != target and target != "/dev/urandom"
        ]


def kill_new_processes(before: Snapshot, patience: float = PATIENCE) -> list[str]:
    """Ends, and names, what is left after `patience` seconds: the next test starts clean."""
    left: list[observer.Process] = []
    with observer.watching(before.new_processes()) as handles:
        _, left = observer.wait_gone(handles, patience)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    with observer.watching(left) as handles:
        observer.wait_gone(handles, PATIENCE)
    _reap()
    return [f"process {process.pid}: {process.command}" for process in left]


def _reap() -> None:
    """Buries what was orphaned to us. By pid: a fixture's own child keeps its exit status."""
    try:
        children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text()
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return
    for pid in map(int, children.split()):
        if observer.look(pid) is None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def find(before: Snapshot) -> list[str]:
    """One line for each thing that is there now and was not there before."""
    found = kill_new_processes(before)
    deadline = time.monotonic() + PATIENCE
    for thread in threading.enumerate():
        if thread not in before.threads and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                found.append(f"thread {thread.name}")
    found += before.signals.restore()
    found += [f"mount {line}" for line in sorted(_mounts() - before.mounts)]
    found += [
        f"temporary file {os.path.join(tempfile.gettempdir(), name)}"
        for name in sorted(_temporary() - before.temporary)
    ]
    if before.new_descriptors():
        gc.collect()  # a test's own forgotten socket is not what is looked for here
        found += before.new_descriptors()
    return found
