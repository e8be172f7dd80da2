"""The processes of one call, as those who end it reach them.

In a Landlock domain that scopes signals, kill(-1) means the call and nothing else: the kernel walks
all processes under the lock that fork(2) takes, so none escapes. Without such a domain it goes by
rounds over direct children, whose orphans come up. Each is held by a pidfd, and its parent is
looked at after that: where SIGCHLD is ignored, a pid may be another process a moment later.

Freezing first was tried: slower in every case, since a stopped process is one more pass.
landlock(7), kill(2), proc_pid_task(5)
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Collection, Sequence
from contextlib import suppress

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.unshared.kernel import WALL
from sandbox_agent_sandbox.inside.walls.landlock import FIRST_SCOPES, landlock_abi

_SCOPE_SIGNAL, _REFER = 2, 1 << 13
"""LANDLOCK_SCOPE_SIGNAL, LANDLOCK_ACCESS_FS_REFER."""
_MOST_PASSES = 50
"""Looks for processes that began after the last look. A storm must not hold its caller."""
_MOST_BELOW = 10_000
"""Processes that are looked for in one go: tools may start new ones as fast as they are found."""
_MOST_LEVELS = 10_000
"""Steps up a chain of parents. Parents that change meanwhile could lead in a circle."""


class Domain:
    """A Landlock domain that keeps signals inside: this process and all that comes from it.

    `enter` alone makes one. outsiders: processes outside, which could be signalled before.
    """

    def __init__(self, outsiders: Sequence[int]) -> None:
        self._outsiders = outsiders

    @classmethod
    def enter(cls, outsiders: Sequence[int]) -> Domain | None:
        """Enter a domain for good, or return None where that cannot be, or is not certain.

        Without a domain kill(-1) would end every process of the user. So it is tried, and not
        believed: the first outsider can be signalled before, and cannot after.
        """
        if landlock_abi() < FIRST_SCOPES:
            return None
        try:
            os.kill(outsiders[0], 0)
            ruleset = syscalls.landlock_create_ruleset(_REFER, 0, _SCOPE_SIGNAL)
            # Every domain denies it to move files to another folder, unless a rule allows that.
            top = os.open("/", os.O_PATH | os.O_CLOEXEC)
            try:
                syscalls.landlock_add_rule(ruleset, top, _REFER)
                syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
                syscalls.landlock_restrict_self(ruleset, 0)
            finally:
                os.close(top)
                os.close(ruleset)
        except OSError:  # E2BIG, for instance: sixteen domains are the most
            return None
        return cls(outsiders) if _is_out_of_reach(outsiders[0]) else None

    def signal_all(self, number: signal.Signals) -> None:
        """A signal to all processes of the domain but this one: the only place with kill(-1).

        That the outsiders are out of reach is asked anew each time. An outsider that has ended says
        nothing: then what `enter` has seen counts, for a domain cannot be left.
        """
        for outsider in self._outsiders:
            if _is_out_of_reach(outsider) is False:
                raise AssertionError("a process outside can be signalled")
        with suppress(ProcessLookupError, PermissionError):
            os.kill(-1, number)


def _is_out_of_reach(pid: int) -> bool | None:
    """Whether the kernel refuses this process a signal to another one; None if that has ended."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return None
    return False


class Reach:
    """Signals to all processes of a call, from its supervisor or its starter.

    domain: that this process is in; None for none.
    """

    def __init__(self, domain: Domain | None) -> None:
        self.domain = domain

    def kill(self) -> None:
        """SIGKILL to all, or to those that are children now. Repeat it until `nothing_left`."""
        if self.domain is not None:
            self.domain.signal_all(signal.SIGKILL)
        else:
            kill_children(())

    def send(self, number: signal.Signals) -> None:
        """A signal to all that are there now."""
        if self.domain is not None:
            self.domain.signal_all(number)
            return
        seen: set[int] = set()
        for _ in range(_MOST_PASSES):
            new = set(below(os.getpid())) - seen
            for pid in new:
                send_below(pid, number)
            if not new:
                break
            seen |= new


def nothing_left() -> bool:
    """The proof: whether this process, a subreaper that ignores SIGCHLD, has no child of any kind.
    What the call orphans becomes its child. PR_SET_CHILD_SUBREAPER(2const), waitid(2)"""
    return _has_none(os.WEXITED | os.WNOHANG | WALL)


def no_orphan_left() -> bool:
    """As `nothing_left`, for a process whose own children are all made by `fork_unnoticed`: they
    do not count."""
    return _has_none(os.WEXITED | os.WNOHANG)


def _has_none(options: int) -> bool:
    try:
        os.waitid(os.P_ALL, 0, options)
    except ChildProcessError:
        return True
    return False


def kill_children(kept: Collection[int]) -> None:
    """SIGKILL to the children of this process, but for these."""
    for pid in children(os.getpid()):
        if pid not in kept:
            _signal(pid, signal.SIGKILL, os.getpid(), directly=True)


def send_below(pid: int, number: signal.Signals) -> None:
    """A signal to a process, if it is below this one."""
    _signal(pid, number, os.getpid(), directly=False)


def _signal(pid: int, number: signal.Signals, top: int, *, directly: bool) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        if directly and error.errno in (errno.EMFILE, errno.ENFILE):
            # Without a descriptor it cannot be held. The kernel has named it a child just now.
            with suppress(OSError):
                os.kill(pid, number)
        return
    try:
        if parent(pid) == top if directly else is_below(pid, top):
            signal.pidfd_send_signal(pidfd, number)
    except OSError:  # it has ended
        pass
    finally:
        os.close(pidfd)


def children(pid: int) -> list[int]:
    """The children of a process, where the kernel lists them (CONFIG_PROC_CHILDREN), else as all
    processes name their parents."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    except FileNotFoundError:
        if os.path.exists("/proc/thread-self/children"):
            return found  # it has ended
        everybody = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        return [one for one in everybody if parent(one) == pid]
    except OSError:
        pass
    return found


def below(pid: int) -> list[int]:
    """The processes below a process, as they are found one after another; not all of a storm."""
    found: list[int] = []
    todo = [pid]
    while todo and len(found) < _MOST_BELOW:
        new = children(todo.pop())
        found += new
        todo += new
    return found


def parent(pid: int) -> int:
    """The parent of a process or thread; 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def is_below(pid: int, top: int) -> bool:
    """Whether a process or thread is below `top`."""
    for _ in range(_MOST_LEVELS):
        if pid <= 1:
            return False
        pid = parent(pid)
        if pid == top:
            return True
    return False
