"""What objects of this project do in a child that was just forked.

An embedding program may call os.fork() at any moment. The child then has copies of our
descriptors and objects, but none of our threads. O_CLOEXEC closes descriptors at exec(2) only: a
child that goes on without exec(2) would hold a lock, or keep a pipe open, after this process died.

There is one hook for all objects, because os.register_at_fork cannot be undone.
"""

from __future__ import annotations

import os
from _weakrefset import WeakSet  # as `threading` does: `weakref` has much more
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Protocol

    class ForkAware(Protocol):
        """Something that a forked child must not use as its parent does."""

        def after_fork_in_child(self) -> None:
            """Called once in each forked child. Changes nothing for the parent."""


_objects: WeakSet[ForkAware] = WeakSet()


def call_after_fork(thing: ForkAware) -> None:
    """Call `thing.after_fork_in_child()` in every child forked from now on. Keeps no reference."""
    _objects.add(thing)


def _in_child() -> None:
    for thing in list(_objects):
        with suppress(OSError):  # one descriptor that is closed already must not spare the others
            thing.after_fork_in_child()


os.register_at_fork(after_in_child=_in_child)
