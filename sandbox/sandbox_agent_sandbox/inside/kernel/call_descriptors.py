"""The descriptors that a call's processes get, apart from the cancel board."""

from __future__ import annotations

from typing import NamedTuple


class CallDescriptors(NamedTuple):
    """The descriptors that arrive with NewCall, in their order."""

    inbox: int
    outbox: int
    wake: int
    status: int
    stdout: int
    stderr: int
