"""Descriptors that a forked child must not keep open.

O_CLOEXEC closes them at exec(2) only. A child that an embedder forks and that goes on as it is
would hold a lock, or seem to listen at a pipe, long after this process has died.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Holder(Protocol):
    """Something with descriptors of its own."""

    def drop_descriptors(self) -> None:
        """Close them, in a child that was just forked. The parent's stay open."""


# One hook for all, since os.register_at_fork cannot be undone.
_holders: weakref.WeakSet[Holder] = weakref.WeakSet()


def close_in_children(holder: Holder) -> None:
    """From now on every forked child has `holder` drop its descriptors, for as long as it lives."""
    _holders.add(holder)


def _in_child() -> None:
    for holder in list(_holders):
        holder.drop_descriptors()


os.register_at_fork(after_in_child=_in_child)
