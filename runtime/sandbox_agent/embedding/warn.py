"""Warnings about what an embedding program's callbacks do."""

from __future__ import annotations

import warnings


def complain(message: str) -> None:
    """Warn about a callback. Never raises, not even where warnings are errors: what a listener does
    wrong is not the run's fault."""
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    except Exception:
        return
