"""The rules of Landlock: the view once more, by another part of the kernel. landlock(7).

The mounts decide what tools see and what they can write. Landlock is the backstop, should one of
the mounts be wrong: a tool reads only what lies below the root of its view, and writes only where
the plan lets tools write. It can deny nothing inside what it allows, so what the policy hides or
protects is up to the mounts alone.

Every call also gets a scope: its processes cannot signal processes outside the call, and cannot
connect to abstract sockets of others, such as those of the host's desktop with the host's network.

Rules for TCP know ports and no addresses. A sandbox without a network has a loopback interface, and
servers on it, so they cannot say more than its network namespace does. They keep a process that
only asks others from listening.

Sources: landlock(7), Documentation/userspace-api/landlock.rst, include/uapi/linux/landlock.h.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from sandbox_agent_sandbox.plan import Access, Bind, Landlock

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE = 1 << 4, 1 << 5
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK = 1 << 6, 1 << 7, 1 << 8, 1 << 9
MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = 1 << 10, 1 << 11, 1 << 12
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
"""LANDLOCK_ACCESS_FS_*."""

BIND_TCP = 1 << 0
"""LANDLOCK_ACCESS_NET_BIND_TCP."""

READ = EXECUTE | READ_FILE | READ_DIR
WRITE = (
    READ | WRITE_FILE | TRUNCATE | REFER | REMOVE_DIR | REMOVE_FILE
    | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM
)  # fmt: skip
"""Everything but devices: nobody can make one."""
WRITE_ONE = EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE
"""The same for a file: all other rights are about what a folder holds."""
USE = READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE
"""What is there can be opened for writing, and nothing can be made."""

_OWN = (
    Access("/", READ),
    # A call writes its own: oom_score_adj, comm, mem (gdb). Its switches are read-only mounts.
    Access("/proc", USE),
    Access("/dev", USE | IOCTL_DEV),
    Access("/dev/shm", WRITE),
    Access("/tmp", WRITE),
    Access("/var/tmp", WRITE),
)
"""Of every sandbox."""


def landlock_rules(binds: Sequence[Bind], *, listens: bool) -> Landlock:
    """The rules for a view. binds: outermost first. listens: whether tools may open TCP ports."""
    places = [access.path for access in _OWN if access.rights == WRITE]
    rules = list(_OWN)
    for bind in binds:
        inside = any(f"{bind.path}/".startswith(f"{place}/") for place in places)
        if bind.writable and not inside:
            places.append(bind.path)
            rules.append(Access(bind.path, WRITE if os.path.isdir(bind.path) else WRITE_ONE))
    return Landlock(tuple(rules), tcp=0 if listens else BIND_TCP)
