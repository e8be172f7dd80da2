"""Descriptors with an owner, for the host's side."""

from __future__ import annotations

import os
from contextlib import suppress

from sandbox_agent_ipc.after_fork import call_after_fork


class Descriptor:
    """A descriptor that is closed when its last reader lets go of it, and not before.

    Other threads and signal handlers write to wake pipes at any moment. Closing one under them
    would let the number come to mean something else between their look and their write; here
    whoever writes holds a reference, and CPython closes at the last one.

    Forked children have it closed at once: what they write would wake or order in this process's
    name, and a socket that they hold open never comes to its end of file.
    """

    __slots__ = ("__weakref__", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        call_after_fork(self)

    def detach(self) -> int:
        """Give the descriptor away: this object will not close it."""
        number, self.number = self.number, -1
        return number

    def close(self) -> None:
        """Close it now, whoever else has this object. Idempotent."""
        # The number goes first: a fork while another thread is in close(2) must not find it.
        number = self.detach()
        if number >= 0:
            with suppress(OSError):
                os.close(number)

    after_fork_in_child = close

    def __del__(self) -> None:
        self.close()


def pipe() -> tuple[Descriptor, Descriptor]:
    """A pipe, (read end, write end), both close-on-exec. pipe2(2)."""
    read, write = os.pipe2(os.O_CLOEXEC)
    return Descriptor(read), Descriptor(write)
