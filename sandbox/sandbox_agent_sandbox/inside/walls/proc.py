"""A /proc of the own pid namespace, whose switches are read-only. proc(5)."""

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
        if os.path.exists(path):
            syscalls.mount(path, path, None, syscalls.MS_BIND | syscalls.MS_REC)
            syscalls.mount_setattr(syscalls.AT_FDCWD, path, syscalls.AT_RECURSIVE, _STRICT)
    for name in _EMPTY:
        path = f"{target}/{name}"
        if os.path.exists(path):
            syscalls.mount(device, path, None, syscalls.MS_BIND)
