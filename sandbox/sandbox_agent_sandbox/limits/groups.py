"""The control groups of one sandbox: the kernel bounds its memory and its processes. cgroups(7)

    PLACE/sandbox-agent-…      all calls: limits.memory, limits.processes
        └─ call-N              one call: limits.call_memory

Version 1 has such a tree for memory, and a single group for processes. A call's init joins both
before anything runs that could use memory. It writes to `tasks`: to move one's own single thread
takes 0.03 ms, to move a process through `cgroup.procs` up to 20 ms (an RCU grace period). Version 2
has `cgroup.procs` only. There the whole sandbox is moved once, while its spawner starts; a call has
a group of its own only where `call_memory` is set.

A group that was used is used again by the next call. Its page cache keeps a removed group of
memory in the kernel for as long as the pages live, so a group for each call would pile up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from sandbox_agent_sandbox.limits.places import new_name, remove, sweep
from sandbox_agent_sandbox.plan import ControlGroups, ResourceLimits

_LIMIT_FILES = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
"""Of version 1. The second counts swap as well, where the kernel counts it."""

_PEAK = "memory.max_usage_in_bytes"
"""Of version 1: the most that was used since it was last written to. Not `memory.failcnt`, which
stays 0 on recent kernels (6.18)."""

_MOST_PROCESSES = 1 << 22
"""PID_MAX_LIMIT: a control group takes no higher limit, and no kernel has more."""

_SLACK = 1 << 20
"""Bytes below a limit from which the peak counts as at the limit: memory is charged in batches."""


class Counts(msgspec.Struct, frozen=True):
    """What the kernel has counted. killed: processes that it ended because memory ran out.
    full, call_full: more than 0 if the memory of the sandbox, or of the call, was at its limit.
    refused: how often no process could be made, since there were as many as may be."""

    killed: int = 0
    full: int = 0
    call_full: int = 0
    refused: int = 0

    def since(self, before: Counts) -> Counts:
        """What has happened since then."""
        return Counts(
            self.killed - before.killed,
            self.full - before.full,
            self.call_full - before.call_full,
            self.refused - before.refused,
        )


class CallGroup(msgspec.Struct):
    """The groups that one call's processes are in.

    joins: files that the call's init writes "0" to. path: of the group of its own; "" for none.
    """

    joins: list[int]
    path: str = ""
    files: dict[str, int] = {}
    before: Counts = Counts()


class SandboxGroups:
    """The groups of one sandbox, for the thread that watches it.

    Raises OSError where they cannot be made.
    """

    def __init__(self, places: ControlGroups, limits: ResourceLimits) -> None:
        self._version = places.version
        self._limits = limits
        self._files: dict[str, int] = {}
        self._free: list[CallGroup] = []
        self._made: list[str] = []
        self._calls: list[CallGroup] = []
        self._number = self._in_use = 0
        try:
            self._memory = self._make(places.memory)
            same = places.processes == places.memory
            self._processes = self._memory if same else ""
            if places.processes and not same:
                self._processes = self._make(places.processes)
            self._set_limits()
        except BaseException:
            self.close()
            raise

    def adopt(self, spawner: int) -> None:
        """Move the spawner, and so all that it will start. Version 2 only, where calls have no
        group of their own. Raises OSError."""
        if self._version == 2 and self._limits.call_memory is None:
            _write(f"{self._memory}/cgroup.procs", str(spawner))

    def enter(self) -> CallGroup:
        """The groups for one more call. Raises OSError."""
        group = self.enter_ahead()
        self.adopted()
        return group

    def enter_ahead(self) -> CallGroup:
        """The groups for processes that no call has yet, see `adopted`. Raises OSError."""
        group = self._free.pop() if self._free else self._new_call()
        if self._version == 1:
            _forget_peak(group.files)
        self.count_afresh(group)
        return group

    def adopted(self) -> None:
        """The processes in such groups are those of a call from now on."""
        self._in_use += 1

    def count_afresh(self, group: CallGroup) -> None:
        """What has been counted so far was not of the call that this group is for."""
        if self._version == 1 and not self._in_use:
            _forget_peak(self._files)
        group.before = self._counts(group)
        if self._version == 1:
            group.before = msgspec.structs.replace(group.before, full=0, call_full=0)

    def leave(self, group: CallGroup, *, empty: bool) -> Counts:
        """What has been counted during a call that is over. empty: no process of it is left."""
        self._in_use -= 1
        counts = self._counts(group).since(group.before)
        if empty:
            self.give_back(group)
        return counts

    def give_back(self, group: CallGroup) -> None:
        """No process is left in the groups that `enter_ahead` gave."""
        if self._limits.call_memory is None or not group.path:
            self._free.append(group)
        else:
            # What it left in /dev/shm would count for the next call's own limit.
            self._calls.remove(group)
            _close(group)
            remove(group.path)

    def close(self) -> None:
        """Remove the groups. One with a process in it stays, until the next sandbox is made."""
        for group in self._calls:
            _close(group)
        for fd in self._files.values():
            os.close(fd)
        self._calls, self._free, self._files = [], [], {}
        for path in self._made:
            remove(path)
        self._made = []

    def _make(self, place: str) -> str:
        sweep(place)
        path = f"{place}/{new_name()}"
        os.mkdir(path)
        self._made.append(path)
        return path

    def _set_limits(self) -> None:
        limits = self._limits
        if self._processes and limits.processes is not None:
            many = limits.processes > _MOST_PROCESSES
            _write(f"{self._processes}/pids.max", "max" if many else str(limits.processes))
        if self._version == 2 and limits.call_memory is not None:
            _write(f"{self._memory}/cgroup.subtree_control", "+memory")
        if limits.memory is not None:
            self._bound(self._memory, limits.memory)
        if self._version == 1:
            self._open("peak", f"{self._memory}/{_PEAK}", os.O_RDWR)
            if self._processes:
                self._open("join", f"{self._processes}/tasks", os.O_WRONLY)
        else:
            self._open("full", f"{self._memory}/memory.events.local")
            self._open("killed", f"{self._memory}/memory.events")
        if self._processes:
            self._open("refused", f"{self._processes}/pids.events")

    def _bound(self, group: str, size: int) -> None:
        if self._version == 2:
            _write(f"{group}/memory.max", str(size))
            with suppress(FileNotFoundError):  # a kernel without swap
                _write(f"{group}/memory.swap.max", "0")
            return
        _write(f"{group}/{_LIMIT_FILES[0]}", str(size))
        with suppress(OSError):  # a kernel that counts no swap
            _write(f"{group}/{_LIMIT_FILES[1]}", str(size))

    def _open(self, name: str, path: str, flags: int = os.O_RDONLY) -> None:
        self._files[name] = os.open(path, flags | os.O_CLOEXEC)

    def _new_call(self) -> CallGroup:
        joins = [self._files["join"]] if "join" in self._files else []
        if self._version == 2 and self._limits.call_memory is None:
            return CallGroup(joins)
        self._number += 1
        path = f"{self._memory}/call-{self._number}"
        os.mkdir(path)
        group = CallGroup(joins, path)
        self._calls.append(group)
        try:
            if self._limits.call_memory is not None:
                self._bound(path, self._limits.call_memory)
            names = _CALL_FILES[self._version]
            for name, (file, flags) in names.items():
                group.files[name] = os.open(f"{path}/{file}", flags | os.O_CLOEXEC)
            group.joins = [group.files["join"], *joins]
        except BaseException:
            self._calls.remove(group)
            _close(group)
            remove(path)
            raise
        return group

    def _counts(self, group: CallGroup) -> Counts:
        killed = group.files.get("killed", self._files.get("killed"))
        return Counts(
            killed=_count(killed, "oom_kill"),
            full=self._full(self._files, self._limits.memory),
            call_full=self._full(group.files, self._limits.call_memory),
            refused=_count(self._files.get("refused"), "max"),
        )

    def _full(self, files: dict[str, int], limit: int | None) -> int:
        if limit is None or self._version == 2:
            return _count(files.get("full"), "oom")
        return int(_count(files.get("peak"), "") >= limit - _SLACK)


_CALL_FILES = {
    1: {
        "join": ("tasks", os.O_WRONLY),
        "killed": ("memory.oom_control", os.O_RDONLY),
        "peak": (_PEAK, os.O_RDWR),
    },
    2: {
        "join": ("cgroup.procs", os.O_WRONLY),
        "killed": ("memory.events", os.O_RDONLY),
        "full": ("memory.events.local", os.O_RDONLY),
    },
}
"""By version: the files of a call's group that are used, and how each is opened."""


def _forget_peak(files: dict[str, int]) -> None:
    with suppress(OSError):
        os.write(files["peak"], b"0")


def _count(fd: int | None, name: str) -> int:
    """The number in a file of one number, or the one after a name."""
    if fd is None:
        return 0
    with suppress(OSError):
        words = os.pread(fd, 4096, 0).split()
        if len(words) == 1:
            return int(words[0])
        return next(_after(words, name.encode()), 0)
    return 0


def _after(words: list[bytes], name: bytes) -> Iterator[int]:
    for key, value in zip(words[::2], words[1::2], strict=False):
        if key == name:
            yield int(value)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _close(group: CallGroup) -> None:
    for fd in group.files.values():
        os.close(fd)
    group.files = {}
