"""The mark by which the next start finds what a sandbox has left: the hard RLIMIT_LOCKS.

The kernel has ignored this limit since 2.4. Children inherit it, no tool can raise it, and
/proc/PID/limits shows it to everybody. A variable of the environment would be lost by `env -i`, by
a fork without an exec, and in a process that has shut itself. getrlimit(2), proc_pid_limits(5)
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Collection, Mapping
from contextlib import suppress

from sandbox_agent_sandbox.inside.unshared.reach import parent

_RLIMIT_LOCKS = 10
_SAID_AS = "Max file locks"
_MAGIC, _MAGIC_SHIFT = 0x5AB0C6, 40
"""The highest bits of each mark. So a limit that somebody else has set is none. Change it with
the meaning of the other bits: another version of this package may run at the same time."""
_SANDBOX_SHIFT = 18
"""Below the magic are bits of chance, one number for each sandbox. The lowest bits tell calls
apart."""
_KEEPER = (1 << _SANDBOX_SHIFT) - 1
"""The lowest bits of the spawner, the supervisors and the starters: more than of any call, since a
limit can only be lowered."""
_MOST_CALLS = (_KEEPER - 1) // 2
_PAUSE = 0.002


class Marks:
    """The marks of one sandbox. To make it marks this process as the keeper of its calls."""

    def __init__(self) -> None:
        # Not by `secrets`, which imports `random`: each fork would pay for its at-fork hook.
        chance = int.from_bytes(os.urandom(4), "little") % (1 << (_MAGIC_SHIFT - _SANDBOX_SHIFT))
        self._first = (_MAGIC << _MAGIC_SHIFT) | (chance << _SANDBOX_SHIFT)
        self._given = 0
        self._can = _lower(self._first | _KEEPER)

    def new(self) -> int:
        """The mark of one more call; 0 where there can be none: tools of a sandbox of this kind,
        such as another sandbox, cannot change the limit."""
        self._given = (self._given + 1) % _MOST_CALLS
        return self._first | (self._given << 1) if self._can else 0


def take_mark(mark: int) -> None:
    """Mark this process as a tool, for good."""
    if mark:
        _lower(mark)


def _lower(value: int) -> bool:
    try:
        resource.setrlimit(_RLIMIT_LOCKS, (value, value))
    except (OSError, ValueError):
        return False
    return True


def marked(mark: int) -> list[int]:
    """The processes of tools with this mark, but for those that have ended."""
    return [pid for pid, value in _marks().items() if value == mark and _is_alive(pid)]


def reap_orphans(limit: float) -> None:
    """End what sandboxes have left whose spawner and supervisors are gone, for at most `limit`
    seconds.

    Processes of other users are left alone, but by root: what root's sandboxes leave may be the
    owner's of a workspace.
    """
    deadline = time.monotonic() + limit
    # Twice: a sandbox that starts between two lines of one look has no spawner in it yet.
    while found := dict(_orphans().items() & _orphans().items()):
        for pid in found:
            kill_marked(pid, set(found.values()))
        if time.monotonic() > deadline:
            break
        time.sleep(_PAUSE)


def kill_marked(pid: int, marks: Collection[int]) -> None:
    """SIGKILL to a process, if it has one of these marks."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if _mark_of(pid) in marks:  # looked at once it is held: a pid may be reused
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(pidfd)


def _orphans() -> dict[int, int]:
    marks = _marks()
    kept = {
        value >> _SANDBOX_SHIFT
        for pid, value in marks.items()
        if value & _KEEPER == _KEEPER and _is_alive(pid)
    }
    user = os.geteuid()
    parents = {pid: parent(pid) for pid in marks}
    return {
        pid: value
        for pid, value in marks.items()
        if value & _KEEPER != _KEEPER
        and value >> _SANDBOX_SHIFT not in kept
        and _is_alive(pid)
        and user in (0, _user(pid))
        and _is_parent_shown(pid, parents)
    }


def _is_parent_shown(pid: int, parents: Mapping[int, int]) -> bool:
    """Whether it is certain that nobody keeps a process. Where /proc hides the processes of other
    users (hidepid), those of root are hidden that keep the tools of a workspace's owner. proc(5)"""
    way: set[int] = set()
    while pid in parents and pid not in way:
        way.add(pid)
        pid = parents[pid]
    return pid == 1 or os.path.exists(f"/proc/{pid}/stat")


def _marks() -> dict[int, int]:
    """The marks of all processes that have one."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (value := _mark_of(int(name))):
            found[int(name)] = value
    return found


def _mark_of(pid: int) -> int:
    with suppress(OSError, ValueError), open(f"/proc/{pid}/limits", encoding="ascii") as file:
        for line in file:
            if line.startswith(_SAID_AS):
                value = int(line[len(_SAID_AS) :].split()[1])
                return value if value >> _MAGIC_SHIFT == _MAGIC else 0
    return 0


def _is_alive(pid: int) -> bool:
    """Whether a process runs. With its first thread alone ended it is shown as a zombie that has
    more threads. proc_pid_stat(5)"""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return False
    return fields[0] not in (b"Z", b"X") or int(fields[17]) > 1


def _user(pid: int) -> int:
    # Of the folder, unless the process has shut itself: then root's. So ask the status.
    with suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("Uid:"):
                return int(line.split()[1])
    return -1
