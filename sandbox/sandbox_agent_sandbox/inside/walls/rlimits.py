"""Resource limits. setrlimit(2)."""

from __future__ import annotations

import resource

from sandbox_agent_sandbox.plan import ResourceLimits

_LOCKED_MEMORY = 8 << 20

_QUEUED_SIGNALS = 4096
"""Signals with a value that wait, and timers. They are counted for the starter as well."""


def apply_rlimits(limits: ResourceLimits) -> None:
    """Lower the caller's limits, hard and soft. A limit that is lower already stays.

    Memory is RLIMIT_DATA, not RLIMIT_AS: node and Go reserve address space by the terabyte.
    """
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_MEMLOCK, _LOCKED_MEMORY),
        (resource.RLIMIT_SIGPENDING, _QUEUED_SIGNALS),
        (resource.RLIMIT_DATA, limits.memory),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_CPU, limits.cpu_time),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_FSIZE, limits.file_size),
    ):
        _, hard = resource.getrlimit(kind)
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (limit, limit))
