"""The folder from which tools import this package."""

from __future__ import annotations

from pathlib import Path

SOURCE_ROOT = Path(__file__).parents[1]
"""The folder on `sys.path` that holds the package `sandbox_agent`."""
