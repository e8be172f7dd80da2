"""The folders that the code inside the walls is imported from."""

from __future__ import annotations

import os
import sys
from _frozen_importlib_external import PathFinder

import sandbox_agent_ipc

import sandbox_agent_sandbox

FACADE = "sandbox_agent"
"""What users import. By name, since nothing here depends on it."""


def import_roots() -> list[str]:
    """The folders that hold `sandbox_agent_ipc`, `sandbox_agent_sandbox`, `msgspec`, and
    `sandbox_agent` where this program uses it."""
    facade = getattr(sys.modules.get(FACADE), "__file__", None)
    files = (sandbox_agent_ipc.__file__, sandbox_agent_sandbox.__file__, _msgspec(), facade)
    roots = (os.path.dirname(os.path.dirname(os.path.realpath(file))) for file in files if file)
    return list(dict.fromkeys(roots))


def _msgspec() -> str | None:
    """It is not imported for that: who asks before all imports wants to go on at once."""
    if "msgspec" not in sys.modules:
        spec = PathFinder.find_spec("msgspec")
        if spec is not None and spec.origin is not None:
            return str(spec.origin)
    import msgspec

    return msgspec.__file__
