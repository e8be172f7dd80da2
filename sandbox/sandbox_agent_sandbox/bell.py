"""How other threads and signal handlers wake the supervisor's thread."""

from __future__ import annotations

import os
from contextlib import suppress

from sandbox_agent_sandbox import syscalls
from sandbox_agent_sandbox.descriptors import Descriptor

MOMENT_NS = 250_000
"""Nanoseconds after which `ring_in_a_moment` is heard."""


class Bell:
    """Two descriptors for an epoll. Ringing takes no lock, and is safe in signal handlers.

    Held by Descriptors, so that a late ring never meets a number that means something else.
    """

    def __init__(self) -> None:
        self._now = Descriptor(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        self._soon = Descriptor(syscalls.timerfd())
        self.numbers = (self._now.number, self._soon.number)

    def ring(self) -> None:
        """Wake the thread."""
        now = self._now
        with suppress(OSError, ValueError):  # ValueError: closed, and nobody is left to hear it
            os.eventfd_write(now.number, 1)

    def ring_in_a_moment(self) -> None:
        """Wake it when whoever else is being woken has begun: woken at the same time, on a machine
        with few processors, it would be in the way. The kernel rings, so nobody can forget to."""
        soon = self._soon
        with suppress(OSError):
            syscalls.arm_timerfd(soon.number, MOMENT_NS)

    def heard(self, number: int) -> None:
        """Take back what was rung. number: the descriptor that was readable."""
        with suppress(BlockingIOError):
            os.read(number, 8)

    def close(self) -> None:
        """Now, and not when the collector comes by."""
        self._now = self._soon = Descriptor(-1)
