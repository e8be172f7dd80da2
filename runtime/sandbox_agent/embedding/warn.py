"""Warnings: about callbacks of the embedding program, and about settings that may be meant
otherwise."""

from __future__ import annotations

import warnings

from sandbox_agent.embedding.log import log


def complain(message: str) -> None:
    """Warn about a callback. Never raises, not even where warnings are errors: a callback that
    fails must not end the run."""
    try:
        log("warning", "%s", message)
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    except Exception:
        return


def notify(message: str) -> None:
    """Warn of something in the settings that is possible, but may be meant otherwise.

    Raises the warning where the program makes warnings errors: nothing has started yet.
    """
    log("warning", "%s", message)
    warnings.warn(message, UserWarning, stacklevel=3)
