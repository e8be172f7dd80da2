"""Looks at the memory and the number of the calls' processes, where no control group counts them.

Best effort. The sandbox's init looks ten times a second, fifty times once half of a limit is used:
what grows faster is over the limit for a moment, and the buffers of sockets are not seen. Init does
as the kernel does in a control group: it ends the largest process, and the call goes on.

The sum of resident pages comes first. It is cheap, and never too low: it counts a page once for
each process that has it. Only where that sum is over the limit, each page is counted once, by
`Pss`, and those of mapped files not at all. What lies in /dev/shm, /tmp in memory, and memfds is
counted apart, for no process may have it mapped. proc_pid_stat(5), proc_pid_smaps(5)
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import msgspec

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.plan import Plan, PlanKind

_PAUSE = 0.1
_SHORT_PAUSE = 0.02
"""Seconds between two looks, and once half of a limit is used."""

_SHARE = 20
"""A look may take one part in so many of the time: with a thousand processes it takes 20 ms."""

_FILES_PAUSE = 1.0
"""Seconds between two looks at the memfds, for which all descriptors are listed."""

_DYING = 1.0
"""Seconds for which a process that was ended counts for nothing: its end takes a moment."""

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC_FLAGS = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC

Tell = Callable[[str, str, str], object]
"""Called with a call's id, the name of the limit, and what is done about it."""


class _Process(msgspec.Struct):
    """start: in clock ticks since boot; with the pid it names one process. is_dead: it has ended,
    and counts until its parent takes note of that. folder: below /proc, with the files that tell of
    its memory and descriptors: of a thread where the first one has ended."""

    pid: int
    parent: int
    threads: int
    start: int
    size: int
    folder: str
    is_dead: bool = False


class Watch:
    """Watches the calls of one sandbox. For its init.

    tell: called before anything is ended, so that the host hears of the cause first. proc: a
    descriptor of the host's /proc, where there is no other. own: the sandbox's own folders that may
    be in memory.
    """

    def __init__(
        self, plan: Plan, tell: Tell, proc: int = -1, own: Sequence[str] = ("/dev/shm", "/tmp")
    ) -> None:
        self._limits = plan.limits
        self._tell = tell
        self._calls: dict[int, str] = {}
        self._next = 0.0
        self._ended: dict[tuple[int, int], float] = {}
        self._told: set[tuple[str, str]] = set()
        self._memfds: dict[int, int] = {}
        self._held: dict[tuple[int, int], int] = {}
        self._memfds_at = 0.0
        watched = plan.limits.memory, plan.limits.call_memory, plan.limits.processes
        self._looks_at_memory = plan.groups is None
        self._proc = -1
        # RLIMIT_NPROC does not bind uid 0, in whatever namespace, and where all processes of a user
        # count it is not exact. getrlimit(2)
        counted = plan.groups is not None and bool(plan.groups.processes)
        self._bounds_numbers = (plan.identity.outside_uid == 0 or plan.counts_user) and not counted
        self._keepers = 2 if plan.kind is PlanKind.NO_NAMESPACES else 1
        bounded = self._bounds_numbers and plan.limits.processes is not None
        if bounded or (plan.groups is None and any(limit is not None for limit in watched)):
            self._proc = _every_process() if proc < 0 else proc
        self._folders = [path for path in own if _is_in_memory(path)]

    def add(self, call_id: str, init: int) -> None:
        """A call has begun. init: the pid of its init."""
        if not self._calls:
            self._next = time.monotonic() + _SHORT_PAUSE
        self._calls[init] = call_id

    def remove(self, init: int) -> None:
        """This process has ended; perhaps it was a call's init."""
        call_id = self._calls.pop(init, None)
        if call_id is not None:
            self._told = {told for told in self._told if told[0] != call_id}

    def pause(self) -> float | None:
        """Seconds until the next look; None while there is nothing to look at."""
        if self._proc < 0 or not self._calls:
            return None
        return max(0.0, self._next - time.monotonic())

    def look(self) -> None:
        """Look, if it is time to, and end what is over a limit."""
        if self.pause() != 0:
            return
        begin = time.monotonic()
        self._ended = {one: at for one, at in self._ended.items() if begin - at < _DYING}
        near = False
        with suppress(OSError):  # of /proc: no descriptor is left, for instance
            near = self._look(begin)
        took = time.monotonic() - begin
        pause = _SHORT_PAUSE if near or self._ended else _PAUSE
        # A storm of new processes that only these looks bound must not make them rare.
        share = 1 if self._bounds_numbers and self._ended else _SHARE
        self._next = begin + max(pause, took * share)

    def _look(self, now: float) -> bool:
        """Whether much of a limit is used."""
        by_call = self._by_call()
        everything = [process for processes in by_call.values() for process in processes]
        near = self._look_at_numbers(everything, by_call)
        if not self._looks_at_memory:
            return near
        if now - self._memfds_at >= _FILES_PAUSE:
            self._memfds_at, self._held = now, {}
            self._memfds = self._memfds_of(everything)
        files = sum(self._memfds.values())
        near |= self._look_at_memory("memory", self._limits.memory, everything, files, by_call)
        for init, processes in by_call.items():
            limit = self._limits.call_memory
            near |= self._look_at_memory("call_memory", limit, processes, 0, {init: processes})
        return near

    def _look_at_numbers(
        self, everything: list[_Process], by_call: dict[int, list[_Process]]
    ) -> bool:
        # RLIMIT_NPROC counts this process as well.
        number, limit = 1 + sum(process.threads for process in everything), self._limits.processes
        if limit is None or number < limit:
            return limit is not None and self._bounds_numbers and number > limit / 2
        largest = max(by_call, key=lambda init: sum(one.threads for one in by_call[init]))
        self._say(largest, "processes", "no more processes or threads could be started")
        if self._bounds_numbers:
            ours = 1 + self._keepers * len(by_call)  # this process, and those that keep a call
            self._end_newest(number - ours - limit, everything, by_call)
        return self._bounds_numbers

    def _end_newest(
        self, number: int, everything: list[_Process], by_call: dict[int, list[_Process]]
    ) -> None:
        """End so many processes and threads, where RLIMIT_NPROC does not bind: as uid 0 outside. Of
        those that began in the same tick of the clock, the one with the highest pid is the newest.

        One that has ended already goes with the end of its parent, whose heir takes note of it.
        """
        tools = {process.pid: process for process in everything if process.pid not in by_call}
        ended: set[int] = set()
        for newest in sorted(tools.values(), key=lambda one: (one.start, one.pid), reverse=True):
            if number <= 0:
                break
            number -= newest.threads
            victim = tools.get(newest.parent) if newest.is_dead else newest
            if victim is not None and victim.pid not in ended:
                ended.add(victim.pid)
                self._end(victim)

    def _look_at_memory(
        self,
        name: str,
        limit: int | None,
        processes: list[_Process],
        files: int,
        by_call: dict[int, list[_Process]],
    ) -> bool:
        if limit is None or not processes:
            return False
        folders = self._in_folders() if name == "memory" else 0
        estimate = sum(process.size for process in processes) + files + folders
        if estimate <= limit:
            return estimate > limit / 2
        total = shared = 0
        for process in processes:
            process.size, of_files = self._exact(process)
            total += process.size - of_files
            shared += of_files
        # What a process has mapped of the files in memory is in both numbers.
        over = total + max(shared, files + folders) - limit
        if over <= 0:
            return True
        # Not a call's init, with which the whole call would end, while there is another.
        tools = [process for process in processes if process.pid not in by_call] or processes
        tools.sort(key=self._weight)
        while over > 0 and tools:
            victim = tools.pop()
            init = next(init for init, members in by_call.items() if victim in members)
            self._say(init, name, "its largest process was ended")
            self._end(victim)
            over -= self._weight(victim)
        return True

    def _weight(self, process: _Process) -> int:
        """What is free once the process has ended."""
        return process.size + self._held.get((process.pid, process.start), 0)

    def _say(self, init: int, limit: str, what: str) -> None:
        call_id = self._calls[init]
        if (call_id, limit) not in self._told:
            self._told.add((call_id, limit))
            self._tell(call_id, limit, what)

    def _end(self, process: _Process) -> None:
        self._ended[process.pid, process.start] = time.monotonic()
        self._memfds_at = 0.0  # what it held is gone with it
        with suppress(OSError):
            pidfd = self._open(process.pid)
            try:
                # If the process is still the same now, the pidfd is its own.
                again = self._read(process.pid)
                if again is not None and again.start == process.start:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)

    def _open(self, pid: int) -> int:
        """A pidfd. pid: as /proc shows it."""
        return os.pidfd_open(pid)

    def _by_call(self) -> dict[int, list[_Process]]:
        """The processes of each call, by the pid of its init. Those that lost their parent have
        that init, or another process of the call, as the new one. pid_namespaces(7)"""
        found = {}
        for name in os.listdir(self._proc):
            if name.isdigit() and (process := self._read(int(name))) is not None:
                found[process.pid] = process
        by_call: dict[int, list[_Process]] = {init: [] for init in self._calls}
        owner: dict[int, int] = {init: init for init in self._calls}
        for process in found.values():
            way = []
            pid = process.pid
            while pid not in owner and pid in found and pid not in way:
                way.append(pid)
                pid = found[pid].parent
            init = owner.get(pid, 0)
            owner.update(dict.fromkeys(way, init))
            if init and (process.pid, process.start) not in self._ended:
                by_call[init].append(process)
        return by_call

    def _read(self, pid: int) -> _Process | None:
        """From /proc/PID/stat. The command in brackets may hold anything."""
        data = self._text(f"{pid}/stat").rpartition(b")")[2].split()
        if len(data) < 22 or data[0] == b"X":
            return None
        folder, threads, pages = str(pid), int(data[17]), int(data[21])
        is_dead = data[0] == b"Z" and threads < 2
        if data[0] == b"Z" and not is_dead:
            folder, pages = self._other_thread(pid)
        return _Process(pid, int(data[1]), threads, int(data[19]), pages * _PAGE, folder, is_dead)

    def _other_thread(self, pid: int) -> tuple[str, int]:
        """A thread of a process whose first one has ended, and the pages that it shows. The process
        goes on, and what /proc says of the first thread has no memory any more."""
        try:
            fd = os.open(f"{pid}/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._proc)
        except OSError:
            return str(pid), 0
        try:
            names = os.listdir(fd)
        except OSError:
            names = []
        finally:
            os.close(fd)
        for name in names:
            data = self._text(f"{pid}/task/{name}/stat").rpartition(b")")[2].split()
            if len(data) > 21 and data[0] not in (b"Z", b"X"):
                return f"{pid}/task/{name}", int(data[21])
        return str(pid), 0

    def _exact(self, process: _Process) -> tuple[int, int]:
        """The process's part of its pages, and of those the ones of files in memory."""
        exact = self._sizes(process, "smaps_rollup", b"Pss_Anon", b"Pss_Shmem")
        if exact is not None:  # and not Pss_File: the kernel takes such pages back when it must
            return sum(exact), exact[1]
        # It may not be looked at, such as our own worker, or a tool that has shut itself
        # (PR_SET_DUMPABLE). What it shares with others counts as its own. proc_pid_status(5)
        own, of_files = self._sizes(process, "status", b"RssAnon", b"RssShmem") or (0, 0)
        return own + of_files, of_files

    def _sizes(
        self, process: _Process, file: str, first: bytes, second: bytes
    ) -> tuple[int, int] | None:
        """Two sizes that a file of the process names, in bytes; None if it cannot be read."""
        sizes: dict[bytes, int] = {}
        for line in self._text(f"{process.folder}/{file}").splitlines():
            name, _, rest = line.partition(b":")
            if name in (first, second):
                sizes[name] = int(rest.split()[0]) * 1024
        return (sizes[first], sizes.get(second, 0)) if first in sizes else None

    def _memfds_of(self, processes: Iterable[_Process]) -> dict[int, int]:
        """The bytes of each memfd that a process holds, by its inode."""
        sizes: dict[int, int] = {}
        for process in processes:
            folder = f"{process.folder}/fd"
            with suppress(OSError):
                fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._proc)
                try:
                    for name in os.listdir(fd):
                        with suppress(OSError):
                            if os.readlink(name, dir_fd=fd).startswith("/memfd:"):
                                status = os.stat(name, dir_fd=fd)
                                size = sizes[status.st_ino] = status.st_blocks * 512
                                held = self._held.get((process.pid, process.start), 0)
                                self._held[process.pid, process.start] = held + size
                finally:
                    os.close(fd)
        return sizes

    def _in_folders(self) -> int:
        used = 0
        for folder in self._folders:
            status = os.statvfs(folder)
            used += (status.f_blocks - status.f_bfree) * status.f_frsize
        return used

    def _text(self, name: str) -> bytes:
        try:
            fd = os.open(name, os.O_RDONLY, dir_fd=self._proc)
        except OSError:
            return b""
        try:
            return os.read(fd, 4096)
        except OSError:  # it has ended meanwhile
            return b""
        finally:
            os.close(fd)


def _every_process() -> int:
    """A descriptor of a /proc that shows all processes of the sandbox, also those that have shut
    themselves (hidepid, PR_SET_DUMPABLE). It has no path."""
    syscalls.mount("proc", "/proc", "proc", _PROC_FLAGS)
    try:
        return os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        syscalls.umount("/proc", syscalls.MNT_DETACH)


def _is_in_memory(path: str) -> bool:
    """Whether a folder is a mount of tmpfs(5)."""
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            fields = line.split()
            if fields[4] == path:
                return fields[fields.index("-") + 1] == "tmpfs"
    return False
