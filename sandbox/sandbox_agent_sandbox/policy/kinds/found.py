"""What became of the trial of one kind of plan."""

from __future__ import annotations

import msgspec


class Found(msgspec.Struct, frozen=True):
    """Whether this host can do a kind of plan. why: what it refused. hint: what would change that.
    Both are empty where it works."""

    works: bool
    why: str = ""
    hint: str = ""
