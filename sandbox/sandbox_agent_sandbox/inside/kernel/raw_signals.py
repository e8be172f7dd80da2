"""Python's functions for signals as they are in C, without the enums of the module `signal`.

Those look up an object for every number. A process that was forked copies each page that it writes
to, and Python writes to what it looks up, since it counts references.
"""

from __future__ import annotations

from _signal import (  # type: ignore[import-not-found]
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    default_int_handler,
    pthread_sigmask,
    signal,
)

__all__ = [
    "SIG_BLOCK",
    "SIG_DFL",
    "SIG_IGN",
    "SIG_SETMASK",
    "default_int_handler",
    "pthread_sigmask",
    "signal",
]
