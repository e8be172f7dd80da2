"""Where this process may make control groups. cgroups(7)."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache

import msgspec

from sandbox_agent_sandbox.plan import ControlGroups

PREFIX = "sandbox-agent-"

_NAME = rf"{PREFIX}([0-9]+)-([0-9]+)-([0-9]+)-[0-9]+"
"""Of a group: the pid namespace, the pid and the start time of its agent, and a number."""

_numbers = itertools.count(1)


class _Mount(msgspec.Struct, frozen=True):
    """A mounted hierarchy. root: the group that is shown at `point`."""

    point: str
    root: str
    version: int
    options: frozenset[str]


def find_places() -> ControlGroups | None:
    """Where groups for memory and processes can be made. It tries: it makes one, and removes it.

    None where memory cannot be counted so: there is no such controller, or no group can be made.
    """
    with suppress(OSError), open("/proc/self/cgroup", encoding="utf-8") as file:
        return _find(file.read())
    return None


@lru_cache(maxsize=1)
def _find(own: str) -> ControlGroups | None:
    """own: /proc/self/cgroup. While it says the same, this process is in the same groups."""
    groups = _groups(own)
    mounts = list(_mounts())
    memory = _place(groups, mounts, "memory", "memory.limit_in_bytes")
    if memory:
        return ControlGroups(1, memory, _place(groups, mounts, "pids", ""))
    for folder in _above(groups, mounts):
        return ControlGroups(2, folder, folder)
    return None


def own_oom_kills() -> int:
    """How often the kernel has ended a process of this process's own group for want of memory; 0
    where that cannot be read. The processes of a sandbox without groups are in it, too."""
    with suppress(OSError), open("/proc/self/cgroup", encoding="utf-8") as file:
        path = _own_events(file.read())
        words = _read(path).split() if path else []
        if "oom_kill" in words:
            return int(words[words.index("oom_kill") + 1])
    return 0


@lru_cache(maxsize=1)
def _own_events(own: str) -> str:
    """own: /proc/self/cgroup."""
    groups = _groups(own)
    for mount in _mounts():
        if mount.version == 1 and "memory" in mount.options and "memory" in groups:
            return f"{_folder(mount, groups['memory'])}/memory.oom_control"
    for mount in _mounts():
        if mount.version == 2:
            return f"{_folder(mount, groups.get('', ''))}/memory.events"
    return ""


def _groups(own: str) -> dict[str, str]:
    """The path of the own group by controller; "" for version 2."""
    groups = {}
    for line in own.splitlines():
        number, controllers, path = line.split(":", 2)
        for controller in ("",) if number == "0" else controllers.split(","):
            groups[controller] = path
    return groups


def _mounts() -> Iterator[_Mount]:
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            fields = line.split()
            kind, _, options = fields[fields.index("-") + 1 :][:3]
            if kind in ("cgroup", "cgroup2"):
                version = 2 if kind == "cgroup2" else 1
                yield _Mount(fields[4], fields[3], version, frozenset(options.split(",")))


def _place(groups: dict[str, str], mounts: list[_Mount], controller: str, needed: str) -> str:
    """The folder of this process's own group in a hierarchy of version 1; "" if no group can be
    made there. needed: a file that each group has."""
    for mount in mounts:
        if mount.version == 1 and controller in mount.options and controller in groups:
            folder = _folder(mount, groups[controller])
            if folder and _can_make(folder, needed):
                return folder
    return ""


def _above(groups: dict[str, str], mounts: list[_Mount]) -> Iterator[str]:
    """The folders in the hierarchy of version 2 that a group with limits can be made in.

    Not this process's own group: one that holds processes gives its children no controllers. So it
    is the nearest group above that does, and that this process may move its children within.
    """
    for mount in mounts:
        folder = _folder(mount, groups.get("", "")) if mount.version == 2 else ""
        while folder.startswith(mount.point) and folder != mount.point:
            folder = os.path.dirname(folder)
            given = _read(f"{folder}/cgroup.subtree_control").split()
            mine = os.access(f"{folder}/cgroup.procs", os.W_OK)
            if {"memory", "pids"} <= set(given) and mine and _can_make(folder, "memory.max"):
                yield folder


def _folder(mount: _Mount, group: str) -> str:
    """Where a group is shown; "" where this mount does not show it."""
    if mount.root == "/":
        return os.path.normpath(mount.point + group) if "/.." not in group else ""
    if group == mount.root or group.startswith(f"{mount.root}/"):
        return os.path.normpath(mount.point + group[len(mount.root) :])
    return ""


def _can_make(folder: str, needed: str) -> bool:
    path = f"{folder}/{new_name()}"
    try:
        os.mkdir(path)
    except OSError:
        return False
    try:
        return not needed or os.access(f"{path}/{needed}", os.W_OK)
    finally:
        with suppress(OSError):
            os.rmdir(path)


def new_name() -> str:
    """A name for a group, by which another agent sees whether its maker still lives."""
    return f"{PREFIX}{_namespace()}-{_maker(os.getpid())}-{next(_numbers)}"


@lru_cache(maxsize=1)
def _maker(pid: int) -> str:
    return f"{pid}-{_started(pid)}"


@lru_cache(maxsize=1)
def _namespace() -> str:
    """The pid namespace of this process, which it never leaves. pid_namespaces(7)"""
    return str(os.stat("/proc/self/ns/pid").st_ino)


def sweep(folder: str) -> None:
    """Remove the groups of agents that have died: SIGKILL leaves theirs behind.

    Those of another pid namespace are left alone: their makers cannot be seen from here. A group
    with a process in it is not removed, whoever made it (EBUSY).
    """
    with suppress(OSError):
        for name in os.listdir(folder):
            match = name.startswith(PREFIX) and re.fullmatch(_NAME, name)
            if match and match[1] == _namespace() and _started(int(match[2])) != int(match[3]):
                remove(f"{folder}/{name}")


def remove(group: str) -> None:
    """Remove a group and the groups in it, as far as no process is left in them."""
    with suppress(OSError):
        for entry in os.scandir(group):
            if entry.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    os.rmdir(entry.path)
        os.rmdir(group)


def _started(pid: int) -> int:
    """When a process started, in clock ticks; 0 if there is none. proc_pid_stat(5)"""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 and fields[0] not in "ZX" else 0


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
