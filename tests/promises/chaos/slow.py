"""A tool whose module takes its time to be imported, and lets nobody hurry it.

Whoever raises the flag meanwhile must find that the tool never starts.
"""

from __future__ import annotations

import os
import time

from sandbox_agent import CancelToken

# First: between the tool's start and its first words there is nothing to import.
try:
    from chaos.tools import waiting
except ImportError:
    from chaos_tools import waiting  # type: ignore[import-not-found,no-redef]

if "SANDBOX_AGENT_CHAOS" not in os.environ:  # the umpire and its agents import this as well
    try:
        time.sleep(0.12)  # what is slow about it; nobody waits for it to be over
    except BaseException:
        time.sleep(0.06)  # SIGTERM came; it starts all the later


def slow_import(mark: str, brief: bool, token: CancelToken) -> str:
    """Imports slowly; then as `waiting`."""
    return str(waiting(mark, brief, token))
