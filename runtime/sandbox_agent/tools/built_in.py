"""The built-in tools, and what a model is told of them.

That is in `built_in.json`, so that no run has to import them and read their signatures: 10 ms.
`scripts/api` writes the file, and a test compares it with the tools.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
from sandbox_agent_ipc.messages import FunctionRef, ToolSpec

HOME = "sandbox_agent_sandbox.inside.tools"
"""The package of the built-in tools."""

_FILES = {
    "read_file": "files",
    "write_file": "writing",
    "edit_file": "writing",
    "list_files": "files",
    "find_files": "finding",
    "search_files": "searching",
}
"""The tools of the set `files`, and the module of each."""

BUILT_IN: Mapping[str, tuple[FunctionRef, ...]] = {
    "shell": (FunctionRef(f"{HOME}.shell", "shell"),),
    "files": tuple(FunctionRef(f"{HOME}.{module}", name) for name, module in _FILES.items()),
}
"""Built-in names (`config.settings.BUILT_IN_TOOLS`) and the functions that each stands for."""

SHELL = BUILT_IN["shell"][0]

DESCRIBED = Path(__file__).with_name("built_in.json")


def described() -> dict[FunctionRef, ToolSpec]:
    """What a model is told of each built-in function. It is the caller's."""
    specs = msgspec.json.decode(DESCRIBED.read_bytes(), type=list[ToolSpec])
    return {spec.function: spec for spec in specs}
