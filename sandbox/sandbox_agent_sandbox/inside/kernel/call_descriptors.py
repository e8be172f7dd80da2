"""What a call's processes are given, apart from the cancel board."""

from __future__ import annotations

from typing import NamedTuple


class CallDescriptors(NamedTuple):
    """The descriptors that come with NewCall, in their order."""

    inbox: int
    outbox: int
    wake: int
    status: int
    stdout: int
    stderr: int
