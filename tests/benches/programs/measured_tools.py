"""Tools that the bench calls. They import nothing that costs time."""

from __future__ import annotations

import os
import time

from sandbox_agent import CancelToken


def nothing() -> str:
    """The smallest function of a user."""
    return ""


def waits(token: CancelToken) -> str:
    """Says that it is up, waits for the flag, and returns when it saw it (ns)."""
    os.write(1, b"up")
    token.wait()
    return str(time.monotonic_ns())
