"""Descriptors with an owner, for the host's side."""

from __future__ import annotations

import os
import weakref
from contextlib import suppress


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
        _all.add(self)

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

    def __del__(self) -> None:
        self.close()


def pipe() -> tuple[Descriptor, Descriptor]:
    """A pipe, (read end, write end), both close-on-exec. pipe2(2)."""
    read, write = os.pipe2(os.O_CLOEXEC)
    return Descriptor(read), Descriptor(write)


# One hook for all, since os.register_at_fork cannot be undone.
_all: weakref.WeakSet[Descriptor] = weakref.WeakSet()


def _close_in_child() -> None:
    for descriptor in list(_all):
        descriptor.close()


os.register_at_fork(after_in_child=_close_in_child)
