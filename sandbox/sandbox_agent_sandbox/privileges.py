"""What this process may do as root. In a container root has a few capabilities, or none.
capabilities(7), proc_pid_status(5)"""

from __future__ import annotations

from contextlib import suppress

SETGID, SETUID, SYS_ADMIN = 6, 7, 21
"""CAP_*. SETGID, SETUID: map the ids of others into a user namespace. SYS_ADMIN: mount, and show
files of others as the tools' own."""

SHUT_BY_US = 0x5AB0C6
"""The third argument of our own prctl(PR_SET_DUMPABLE, 0), which the kernel ignores. By it the
filter of a sandbox around this one knows ours: what tools shut themselves with is refused there."""


def has(*numbers: int) -> bool:
    """Whether this process has all of these capabilities."""
    effective = 0
    with suppress(OSError), open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        effective = next(int(line[7:], 16) for line in file if line.startswith("CapEff:"))
    return all(effective >> number & 1 for number in numbers)
