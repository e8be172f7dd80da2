"""The folders that the code inside the walls is imported from."""

from __future__ import annotations

from pathlib import Path

import msgspec
import sandbox_agent_ipc

import sandbox_agent_sandbox


def import_roots() -> list[str]:
    """The folders that hold `sandbox_agent_ipc`, `sandbox_agent_sandbox` and `msgspec`."""
    files = (sandbox_agent_ipc.__file__, sandbox_agent_sandbox.__file__, msgspec.__file__)
    return list(dict.fromkeys(str(Path(file).resolve().parent.parent) for file in files if file))
