"""A /proc whose switches are read-only: of the own pid namespace, or a copy. proc(5)."""

from __future__ import annotations

import os

from sandbox_agent_sandbox.inside.kernel import syscalls

_READ_ONLY = ("sys", "irq", "bus", "fs", "sysrq-trigger")
_EMPTY = ("kcore", "kmsg", "keys", "timer_list", "kallsyms", "sched_debug")
_STRICT = (
    syscalls.MOUNT_ATTR_RDONLY
    | syscalls.MOUNT_ATTR_NOSUID
    | syscalls.MOUNT_ATTR_NODEV
    | syscalls.MOUNT_ATTR_NOEXEC
)


def mount_proc(target: str, *, device: str) -> None:
    """Mount a fresh /proc at `target`. device: a null device, mounted over files to hide."""
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount("proc", target, "proc", flags, "hidepid=2")
    for name in _READ_ONLY:
        path = f"{target}/{name}"
        if name in _names(target):
            syscalls.mount(path, path, None, syscalls.MS_BIND | syscalls.MS_REC)
            syscalls.mount_setattr(syscalls.AT_FDCWD, path, syscalls.AT_RECURSIVE, _STRICT)
    _hide(target, device)


def bind_proc(target: str, *, device: str) -> None:
    """Mount a copy of the /proc that is there, with what covers it, read-only as a whole: it shows
    processes outside, and of those of its own user a tool could write some switches."""
    tree = syscalls.open_tree("/proc")
    try:
        flags = syscalls.AT_EMPTY_PATH | syscalls.AT_RECURSIVE
        syscalls.mount_setattr(tree, "", flags, _STRICT, propagation=syscalls.MS_PRIVATE)
        syscalls.move_mount(tree, target)
    finally:
        os.close(tree)
    _hide(target, device)


def _hide(target: str, device: str) -> None:
    for name in _EMPTY:
        path = f"{target}/{name}"
        if name in _names(target):
            syscalls.mount(device, path, None, syscalls.MS_BIND)


_there: set[str] = set()


def _names(target: str) -> set[str]:
    """Which of the names above a /proc has. All have the same, so one look will do."""
    if not _there:
        names = (*_READ_ONLY, *_EMPTY)
        _there.update(name for name in names if os.path.exists(f"{target}/{name}"))
    return _there
