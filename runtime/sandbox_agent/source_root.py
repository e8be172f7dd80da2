"""Where the code that tools import from this package lies."""

from __future__ import annotations

from pathlib import Path

SOURCE_ROOT = Path(__file__).parents[1]
"""The folder on `sys.path` that holds the package `sandbox_agent`."""
