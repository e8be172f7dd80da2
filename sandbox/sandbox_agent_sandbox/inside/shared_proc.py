"""A sandbox's /proc where no fresh one can be mounted: a read-only copy of the starter's.

In a container parts of /proc are covered, and so the kernel lets nobody mount one without those
covers (mount_too_revealing() in fs/namespace.c). The copy has the covers too. It shows pids of the
starter's namespace: /proc/self is right, and /proc/PID has another number than the process itself
knows. NSpid in /proc/PID/status joins the two. pid_namespaces(7), proc_pid_status(5)

It also shows other processes. What they have open, their memory and their environment are closed to
tools by the user namespace (ptrace(2), access mode checking), those of other calls by Landlock. So
this kind of plan needs Landlock. Names and command lines are covered for what runs when a call
begins; what begins later can be seen.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.kernel.small_files import read_text
from sandbox_agent_sandbox.inside.procs import FreshProc
from sandbox_agent_sandbox.inside.walls.proc import bind_proc
from sandbox_agent_sandbox.inside.watch import Tell, Watch
from sandbox_agent_sandbox.inside.worker.leftovers import is_counted
from sandbox_agent_sandbox.plan import Plan

_SEALED = (errno.EROFS, errno.EACCES, errno.EPERM)
_MOST_COVERED = 1000
"""Processes and threads that are covered for a call: each takes some 15 µs."""


class SharedProc(FreshProc):
    """The starter's /proc, with covers over what runs outside the call."""

    def __init__(self) -> None:
        self._spawner = 0

    def forbid_nesting(self) -> None:
        """As `FreshProc`. Where a container has made /proc/sys read-only, the filter of system
        calls forbids it alone."""
        try:
            super().forbid_nesting()
        except OSError as error:
            if error.errno not in _SEALED:
                raise

    def mount(self, target: str, device: str) -> None:
        """Copy the /proc that is there, without its switches. Raises OSError where it shows another
        pid namespace, in which this process has no number."""
        bind_proc(target, device=device)
        os.readlink(f"{target}/self")
        self._spawner = _parent("self", target)
        cover = f"{target}/{self._spawner}"
        flags = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        syscalls.mount("tmpfs", cover, "tmpfs", flags, "size=4k,mode=555")

    def watch(self, plan: Plan, tell: Tell) -> Watch:
        """As `FreshProc`, by the numbers of this /proc."""
        return _Watch(plan, tell, proc=os.open("/proc", os.O_RDONLY | os.O_CLOEXEC))

    def renew(self) -> None:
        """Cover all processes but this one, from which those of the call will come."""
        own, cover = os.readlink("/proc/self"), f"/proc/{self._spawner}"
        names: list[str] = []
        for name in os.listdir("/proc"):
            if name.isdigit() and name != own and len(names) < _MOST_COVERED:
                names.append(name)
                with suppress(OSError):  # it has ended, or is the covered one
                    # A thread has a folder, too, which is not listed.
                    names += (one for one in os.listdir(f"/proc/{name}/task") if one != name)
        for name in names:
            with suppress(OSError):  # it has ended
                syscalls.mount(cover, f"/proc/{name}", None, syscalls.MS_BIND)

    def others(self) -> list[int]:
        """As `FreshProc`: what comes from this call's init. The worker is its child, and orphans
        are its children too."""
        worker = int(os.readlink("/proc/self"))
        init = _parent("self")
        parents: dict[int, int] = {}
        with suppress(OSError):  # the tool has used up the descriptors
            for name in os.listdir("/proc"):
                if name.isdigit() and (parent := _parent(name)):
                    parents[int(name)] = parent
        return [
            pid
            for pid in sorted(parents)
            if pid != worker and _comes_from(pid, init, parents) and is_counted(pid)
        ]


class _Watch(Watch):
    """Init knows the calls' inits by its own numbers, and /proc shows others."""

    def __init__(self, plan: Plan, tell: Tell, proc: int) -> None:
        super().__init__(plan, tell, proc)
        self._shown: dict[int, int] = {}
        self._depth = len(_namespace_pids("self")) - 1
        """Where init's own numbers stand in NSpid."""

    def add(self, call_id: str, init: int) -> None:
        pidfd = os.pidfd_open(init)
        try:
            # Pid is a number of the /proc that is read. pidfd_open(2)
            text = read_text(f"/proc/self/fdinfo/{pidfd}")
        finally:
            os.close(pidfd)
        self._shown[init] = int(_line(text, "Pid"))
        super().add(call_id, self._shown[init])

    def remove(self, init: int) -> None:
        super().remove(self._shown.pop(init, 0))

    def _open(self, pid: int) -> int:
        return os.pidfd_open(_namespace_pids(str(pid))[self._depth])


def _parent(name: str, proc: str = "/proc") -> int:
    """The number of a process's parent; 0 if it has ended or is covered."""
    try:
        with open(f"{proc}/{name}/stat", "rb") as file:
            # The command in brackets may hold anything. proc_pid_stat(5)
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _comes_from(pid: int, init: int, parents: dict[int, int]) -> bool:
    way: set[int] = set()
    while pid not in way:
        way.add(pid)
        pid = parents.get(pid, 0)
        if pid == init:
            return True
    return False


def _namespace_pids(name: str) -> list[int]:
    return [int(one) for one in _line(read_text(f"/proc/{name}/status"), "NSpid").split()]


def _line(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"{name}:")).split(":")[1]
