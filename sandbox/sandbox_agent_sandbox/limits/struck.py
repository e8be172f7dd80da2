"""Names the limits that a call has met, each with its number. Pure."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import msgspec

from sandbox_agent_sandbox.limits.groups import Counts
from sandbox_agent_sandbox.outcome import LimitMet, Outcome
from sandbox_agent_sandbox.plan import ResourceLimits

OUTSIDE = "memory ran out beyond the sandbox's own limits"
"""Of an OOM kill whose cause is not a limit of ours: a control group above, or the machine."""

_LOOKED_AT = 64 * 1024
"""Bytes of the end of what a call printed: what failed says so at its end."""

_SAID = (
    (b"Too many open files", "open_files"),
    (b"File too large", "file_size"),
    (b"Cannot allocate memory", "process_memory"),
    (b"MemoryError", "process_memory"),
    (b"bad_alloc", "process_memory"),
    (b"Resource temporarily unavailable", "processes"),
    (b"can't start new thread", "processes"),
)
"""What programs print where a limit of setrlimit(2) refused them something, and that limit. The
kernel reports these refusals to the process alone, as errno. strerror(3)"""

_SIGNALS = {
    signal.SIGXCPU: ("cpu_time", "a process used it up"),
    signal.SIGXFSZ: ("file_size", "a file was to become longer"),
}
"""How the kernel ends a process that is over a limit. setrlimit(2)"""

_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)


class Usage(msgspec.Struct, frozen=True):
    """What the host saw of a call's use of things.

    timeout: seconds that it had. counts: of its control groups. met: what was noticed while it ran.
    cpu_seconds: of its command and what that waited for. kept: bytes of output that may be kept.
    full: what may have no space left at its end. counts_user: as of `Plan`.
    """

    limits: ResourceLimits = ResourceLimits()
    timeout: float | None = None
    counts: Counts = Counts()
    met: tuple[LimitMet, ...] = ()
    cpu_seconds: float = 0.0
    kept: int = 0
    left_out: int = 0
    full: tuple[LimitMet, ...] = ()
    counts_user: bool = False


def struck(
    usage: Usage, outcome: Outcome, exit_status: int | None, printed: bytes
) -> tuple[LimitMet, ...]:
    """The limits that a call has met, each once.

    exit_status: as in `CallResult`. printed: its output.
    """
    found: dict[str, LimitMet] = {}
    for met in _all(usage, outcome, exit_status, printed):
        found.setdefault(met.limit, met)
    return tuple(found.values())


def ran_out_elsewhere(usage: Usage) -> str:
    """That the kernel ended processes of the call for want of memory, and no limit of ours was the
    cause; "" if that did not happen."""
    killed = usage.counts.killed
    return "" if killed <= 0 or _memory(usage) else f"{OUTSIDE}: {_ended(killed)}"


def named(limits: ResourceLimits, limit: str, what: str) -> LimitMet | None:
    """A limit that was met, with its number; None if there is no such limit. what: came of it."""
    value = getattr(limits, limit)
    if value is None:
        return None
    together = " of all calls together" if limit in ("memory", "processes") else ""
    return LimitMet(limit, value, f"{limit} {shown(limit, value)}{together}: {what}")


def shown(limit: str, value: float) -> str:
    """The number of a limit: "256 MiB", "100 MB", "2 s", "1024"."""
    if limit in ("timeout", "cpu_time"):
        return f"{value:g} s"
    if limit in ("processes", "open_files"):
        return f"{value:g}"
    for base, units in ((1024, ("KiB", "MiB", "GiB", "TiB")), (1000, ("kB", "MB", "GB", "TB"))):
        for power, unit in reversed(list(enumerate(units, 1))):
            if value and value % base**power == 0:
                return f"{value // base**power:g} {unit}"
    return f"{value:g} bytes"


def _all(
    usage: Usage, outcome: Outcome, exit_status: int | None, printed: bytes
) -> Iterator[LimitMet]:
    limits = usage.limits
    if outcome is Outcome.TIMEOUT and usage.timeout is not None:
        yield LimitMet("timeout", usage.timeout, f"timeout {shown('timeout', usage.timeout)}")
    yield from usage.met
    if (memory := _memory(usage)) is not None:
        yield memory
    if usage.counts.refused > 0:
        yield from _one(limits, "processes", "no more processes or threads could be started")
    for number, (limit, what) in _SIGNALS.items():
        if exit_status in (-number, 128 + number):
            yield from _one(limits, limit, what)
    if exit_status in _KILLED and usage.cpu_seconds >= (limits.cpu_time or float("inf")):
        yield from _one(limits, "cpu_time", "a process used it up, and was killed")
    if outcome in (Outcome.ERROR, Outcome.CRASHED):
        end = printed[-_LOOKED_AT:]
        if b"No space left on device" in end:
            # /dev/shm only where it is named: seldom does anything write there.
            shared = b"/dev/shm" in end
            yield from (one for one in usage.full if (one.limit == "shm") == shared)
        for words, limit in _SAID:
            if words in end:
                what = f"it may be the cause of `{words.decode()}`"
                if limit == "processes" and usage.counts_user:
                    what += "; all processes and threads of this user count, also those outside"
                yield from _one(limits, limit, what)
    if usage.left_out > 0 and usage.kept:
        text = f"output {shown('output', usage.kept)}: {usage.left_out} bytes were left out"
        yield LimitMet("output", usage.kept, text)


def _one(limits: ResourceLimits, limit: str, what: str) -> Iterator[LimitMet]:
    met = named(limits, limit, what)
    if met is not None:
        yield met


def _memory(usage: Usage) -> LimitMet | None:
    counts = usage.counts
    if counts.killed <= 0:
        return None
    what = _ended(counts.killed)
    if counts.call_full > 0 and usage.limits.call_memory is not None:
        return named(usage.limits, "call_memory", what)
    return named(usage.limits, "memory", what) if counts.full > 0 else None


def _ended(killed: int) -> str:
    return f"the kernel ended {killed} process{'' if killed == 1 else 'es'}"
