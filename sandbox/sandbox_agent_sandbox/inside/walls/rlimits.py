"""Resource limits. setrlimit(2)."""

from __future__ import annotations

import resource

from sandbox_agent_sandbox.plan import ResourceLimits

_LOCKED_MEMORY = 8 << 20

_QUEUED_SIGNALS = 4096
"""Signals with a value that wait, and timers. They are counted for the starter as well."""


_LAST_SECONDS = 1
"""Seconds of CPU time from SIGXCPU, which a process may handle, to SIGKILL. setrlimit(2)"""

_SPARE = 64
"""Processes that RLIMIT_NPROC allows beyond a control group's limit. So the group's strikes first,
and only the group says that it did."""


def apply_rlimits(limits: ResourceLimits, *, counted: bool) -> None:
    """Lower the caller's limits, hard and soft. A limit that is lower already stays.

    counted: whether a control group counts the sandbox's processes. Memory of a process is
    RLIMIT_DATA, not RLIMIT_AS: node and Go reserve address space by the terabyte.
    """
    for kind, value in _lowered(limits, counted):
        resource.setrlimit(kind, value)


_Lowered = list[tuple[int, tuple[int, int]]]

_prepared: list[tuple[ResourceLimits, bool, _Lowered]] = []


def prepare_rlimits(limits: ResourceLimits, *, counted: bool) -> None:
    """Find out what `apply_rlimits` sets, once for all workers that come from this process."""
    _prepared[:] = [(limits, counted, _lowered(limits, counted))]


def _lowered(limits: ResourceLimits, counted: bool) -> _Lowered:
    for known, with_groups, lowered in _prepared:
        if known is limits and with_groups is counted:
            return lowered
    processes, cpu_time = limits.processes, limits.cpu_time
    if processes is not None and counted:
        processes += _SPARE
    wanted: list[tuple[int, int | None]] = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_MEMLOCK, _LOCKED_MEMORY),
        (resource.RLIMIT_SIGPENDING, _QUEUED_SIGNALS),
        # A user who may use real-time priorities must not stall the machine from inside. sched(7)
        (resource.RLIMIT_RTPRIO, 0),
        (resource.RLIMIT_NICE, 0),
        (resource.RLIMIT_DATA, limits.process_memory),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_FSIZE, limits.file_size),
    ]
    found = [(kind, _at_most(kind, value, value)) for kind, value in wanted if value is not None]
    if cpu_time is not None:
        pair = _at_most(resource.RLIMIT_CPU, cpu_time, cpu_time + _LAST_SECONDS)
        found.append((resource.RLIMIT_CPU, pair))
    return found


def _at_most(kind: int, soft: int, hard: int) -> tuple[int, int]:
    _, most = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    return soft, hard
