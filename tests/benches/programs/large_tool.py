"""A tool with much to say, which is made before the tool begins."""

from __future__ import annotations

import os

TEXT = "x" * int(os.environ["LARGE_RESULT"])


def returned() -> str:
    """All of it as the result."""
    return TEXT


def printed() -> str:
    """All of it on standard output."""
    left = memoryview(TEXT.encode())
    while left:
        left = left[os.write(1, left) :]
    return ""
