"""The folder from which tools import this package."""

from __future__ import annotations

import os
from pathlib import Path

import sandbox_agent_sandbox

SOURCE_ROOT = Path(__file__).parents[1]
"""The folder on `sys.path` that holds the package `sandbox_agent`."""

SANDBOX_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(sandbox_agent_sandbox.__file__)))
"""The folder on `sys.path` that holds the built-in tools."""
