"""Closing what the host has open, so that tools cannot reach it. close_range(2)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sandbox_agent_sandbox.inside.kernel import syscalls

_LAST = 0xFFFFFFFF


def keep_only(descriptors: Sequence[int]) -> None:
    """Close every descriptor above 2 but these."""
    first = 3
    for fd in sorted(descriptors):
        if fd > first:
            syscalls.close_range(first, fd - 1)
        if fd >= first:
            first = fd + 1
    syscalls.close_range(first, _LAST)


def keep_as_0(descriptor: int) -> None:
    """Close every descriptor but this one, which is 0 from now on."""
    os.dup2(descriptor, 0)
    syscalls.close_range(1, _LAST)


def standard_streams(stdout: int, stderr: int) -> None:
    """Standard input from /dev/null, output and error to these descriptors."""
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    if null > 2:
        os.close(null)
