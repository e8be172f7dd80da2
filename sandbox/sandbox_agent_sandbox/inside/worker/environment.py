"""The environment of a worker, most of which it has already."""

from __future__ import annotations

import os
from collections.abc import Mapping

_taken: Mapping[str, str] | None = None
"""What `os.environ` holds, where this module has set it."""


def take_environment(wanted: Mapping[str, str]) -> None:
    """Have these variables and no others. Raises ValueError for what no environment can hold.

    Before that of a call, init takes that of the plan, and the workers inherit it. So there is
    little left to change: each variable takes a putenv(3).
    """
    global _taken
    known, _taken = _taken, None  # unknown, should this fail half-way
    if known is None:
        os.environ.clear()
        os.environ.update(wanted)
    else:
        for name in known.keys() - wanted.keys():
            del os.environ[name]
        for name, value in wanted.items():
            if known.get(name) != value:
                os.environ[name] = value
    _taken = wanted
