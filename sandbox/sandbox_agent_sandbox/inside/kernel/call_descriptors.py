"""The descriptors that a call's processes get, apart from the cancel board."""

from __future__ import annotations

from typing import NamedTuple


class CallDescriptors(NamedTuple):
    """The descriptors that arrive with NewCall, in their order. groups: of the control groups that
    the call joins; the call's init closes them. ruleset: of Landlock, made by init; None if the
    worker makes its own."""

    inbox: int
    outbox: int
    wake: int
    status: int
    stdout: int
    stderr: int
    groups: tuple[int, ...] = ()
    ruleset: int | None = None

    @classmethod
    def received(cls, descriptors: list[int], ruleset: int | None = None) -> CallDescriptors:
        """From what came with NewCall. Raises ValueError if something is missing."""
        inbox, outbox, wake, status, stdout, stderr, *groups = descriptors
        return cls(inbox, outbox, wake, status, stdout, stderr, tuple(groups), ruleset)
