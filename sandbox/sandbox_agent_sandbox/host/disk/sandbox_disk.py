"""What one sandbox has on the disk: watched while it lives, removed in the end. The watch is a
thread of its own, because a disk may hang."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from sandbox_agent_ipc.shortage import start_thread

from sandbox_agent_sandbox.host.disk.area import Area, remove_leftovers
from sandbox_agent_sandbox.host.disk.filled import Filled, file_clock
from sandbox_agent_sandbox.outcome import LimitMet
from sandbox_agent_sandbox.plan import Plan, PrivateKind

INTERVAL = 0.2
"""Seconds between two looks. What tools write meanwhile comes on top of a limit."""

_LASTS = 2
"""After so many looks the sandbox is no affair of a moment, so one of its calls may have to be
signalled. This thread has the time for what that needs, and holds nothing up."""

_SWEEP = 30.0
"""Seconds in which a sandbox that ends waits until what earlier ones have left is removed."""

_MOMENT = 0.25
"""Seconds in which the end of a sandbox waits for its own folder to be gone."""

REMOVAL = "sandbox-agent removal"
"""The name of threads that a program should wait for at its end."""

_TEXT = {
    "tmp": "/tmp and the home folder held {}, more than {} (limits.tmp)",
    "disk": "tools added {} to a disk, more than {} (limits.disk)",
}


class SandboxDisk:
    """What one sandbox has on the disk, and its watch.

    strike: called in the thread of the watch when a limit was passed, for every call in flight.
    """

    def __init__(self, plan: Plan, strike: Callable[[LimitMet], object]) -> None:
        self._plan = plan
        self._strike = strike
        self._area: Area | None = None
        self._init = -1
        self._stopped = threading.Event()
        self._swept = threading.Event()
        self._limits: list[tuple[str, int, Filled]] = []
        self._thread: threading.Thread | None = None
        self._removal: threading.Thread | None = None
        self.no_image = ""
        """Why /tmp is a folder, which is watched, where the plan has a file system for it."""

    def born(self, descriptors: Sequence[int], path: str, no_image: str) -> None:
        """The sandbox has made something on the disk, if there is a descriptor of it."""
        self.no_image = no_image
        for descriptor in descriptors:
            self._area = Area(descriptor, path)

    def watch(self, init: int) -> None:
        """Begin to watch the limits of a sandbox that is built. In the same thread, what sandboxes
        of killed hosts have left is removed first. init: the pid of its init.

        Raises RuntimeError if there are no more threads.
        """
        self._init = init
        if self._plan.private.base or (self._plan.disk is not None and _writable(self._plan)):
            name = "sandbox-agent disk"
            thread = threading.Thread(target=self._main, name=name, daemon=True)
            start_thread(thread)
            self._thread = thread

    def met(self) -> tuple[LimitMet, ...]:
        """The limits that may be met now, at the end of a call, and that nothing else names. How
        full a file system in memory is, only processes inside see."""
        found, private = [], self._plan.private
        size, shared = private.size, private.shared_memory
        if size is not None and self._area is not None and self._area.is_full:
            text = f"/tmp and the home folder are full: {in_words(size)} (limits.tmp)"
            found.append(LimitMet("tmp", size, text))
        elif size is not None and private.kind is PrivateKind.MEMORY:
            text = f"/tmp and the home folder, {in_words(size)} in memory, may be full (limits.tmp)"
            found.append(LimitMet("tmp", size, text))
        if shared is not None:
            text = f"/dev/shm, {in_words(shared)}, may be full (limits.shm)"
            found.append(LimitMet("shm", shared, text))
        return tuple(found)

    def begin_to_close(self) -> None:
        """Begin to remove it, after the last process of the sandbox. Idempotent."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(_MOMENT)
        if self._removal is None and (self._area is not None or self._plan.private.base):
            removal = threading.Thread(target=self._remove, name=REMOVAL, daemon=False)
            try:
                start_thread(removal)
            except RuntimeError:  # no more threads, or the interpreter is at its end
                self._remove()
            else:
                self._removal = removal

    def close(self) -> None:
        """Remove it, after the last process of the sandbox. Idempotent.

        Waits a moment. What takes longer is removed by a thread that the end of the interpreter
        waits for: the work has stopped, and a disk may be slow.
        """
        self.begin_to_close()
        if self._removal is not None:
            self._removal.join(_MOMENT)

    def _remove(self) -> None:
        self._swept.wait(0 if self._thread is None else _SWEEP)
        if self._area is not None:
            self._area.remove()
        elif self._init < 0:  # the spawner may have ended just after it had made something
            remove_leftovers(self._plan.private.base)

    def _main(self) -> None:
        sweep = threading.Thread(target=self._sweep, name="sandbox-agent sweep", daemon=True)
        try:
            self._watch(sweep)
        finally:
            if not sweep.is_alive():
                self._swept.set()

    def _watch(self, sweep: threading.Thread) -> None:
        with suppress(OSError):
            self._set_limits()
        with suppress(RuntimeError):  # no more threads
            start_thread(sweep)
        for looks in itertools.count(1):
            if self._stopped.wait(INTERVAL):
                return
            if looks == _LASTS:
                with suppress(ImportError, OSError, MemoryError):
                    import psutil  # noqa: F401
            for name, limit, filled in self._limits:
                with suppress(OSError):  # a folder was taken away: the next call says so
                    added = filled.passed()
                    if added is not None and not self._stopped.is_set():
                        text = _TEXT[name].format(in_words(added), in_words(limit))
                        self._strike(LimitMet(name, limit, text))

    def _set_limits(self) -> None:
        private, disk, area = self._plan.private, self._plan.disk, self._area
        if area is not None and area.path and private.size is not None:
            filled = Filled([area.folder], private.size, 0, self._written, self._stopped)
            self._limits.append(("tmp", private.size, filled))
        if disk is not None:
            now = file_clock()
            for folders in _by_disk(self._plan):
                filled = Filled(folders, disk, now, self._written, self._stopped)
                self._limits.append(("disk", disk, filled))

    def _sweep(self) -> None:
        try:
            if self._plan.private.base:
                remove_leftovers(self._plan.private.base)
        finally:
            self._swept.set()

    def _written(self) -> int:
        """What the processes of the sandbox that are alive have written: also to files that have no
        name any more. proc_pid_io(5)"""
        total = 0
        # Imported here: what a command of a moment writes is not asked for.
        import psutil

        with suppress(psutil.Error, OSError):
            for process in psutil.Process(self._init).children(recursive=True):
                with suppress(psutil.Error, OSError):
                    total += process.io_counters().write_bytes
        return total


def _writable(plan: Plan) -> list[str]:
    return [bind.path for bind in plan.binds if bind.writable]


def _by_disk(plan: Plan) -> list[list[str | int]]:
    found: dict[int, list[str | int]] = {}
    for path in _writable(plan):
        found.setdefault(os.stat(path).st_dev, []).append(path)
    return list(found.values())


def in_words(size: int) -> str:
    """A size for people, such as "10 GiB" or "1.5 MiB"."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}".replace(".0 ", " ")
    return f"{size} bytes"
