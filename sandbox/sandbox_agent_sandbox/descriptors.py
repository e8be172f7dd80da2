"""Descriptors with an owner, for the host's side."""

from __future__ import annotations

import os
from contextlib import suppress


class Descriptor:
    """A descriptor that is closed when its last reader lets go of it, and not before.

    Other threads and signal handlers write to wake pipes at any moment. Closing one under them
    would let the number come to mean something else between their look and their write; here
    whoever writes holds a reference, and CPython closes at the last one.
    """

    __slots__ = ("__weakref__", "number")

    def __init__(self, number: int) -> None:
        self.number = number

    def detach(self) -> int:
        """Give the descriptor away: this object will not close it."""
        number, self.number = self.number, -1
        return number

    def __del__(self) -> None:
        if self.number >= 0:
            with suppress(OSError):
                os.close(self.number)
            self.number = -1


def pipe() -> tuple[Descriptor, Descriptor]:
    """A pipe, (read end, write end), both close-on-exec. pipe2(2)."""
    read, write = os.pipe2(os.O_CLOEXEC)
    return Descriptor(read), Descriptor(write)
