"""The logger of the package. It prints nothing unless the embedding program configures logging.

A program that has not imported logging has not configured it. So nothing is logged there, and the
import, which takes some milliseconds, is left out.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import logging


def log(level: Literal["info", "warning", "error"], message: str, *arguments: object) -> None:
    """Log a message of this level, with its arguments as logging takes them."""
    if "logging" in sys.modules:
        getattr(_logger(), level)(message, *arguments, stacklevel=2)


@cache
def _logger() -> logging.Logger:
    import logging

    logger = logging.getLogger("sandbox_agent")
    # Without a handler, Python prints warnings to standard error.
    logger.addHandler(logging.NullHandler())
    return logger
