"""What a spawner makes ready whose sandbox may call any tool."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

from sandbox_agent_sandbox.import_roots import FACADE
from sandbox_agent_sandbox.inside.prepare import prepare_command
from sandbox_agent_sandbox.inside.tools import files, finding, searching, shell, writing
from sandbox_agent_sandbox.inside.worker.invoke import bind

_TOOLS = (
    shell.shell,
    files.read_file,
    files.list_files,
    finding.find_files,
    searching.search_files,
    writing.write_file,
    writing.edit_file,
)

_FOR_TOOLS = ("tool", "CancelToken", "Cancelled", "Image", "ToolError", "ToolResult")
"""What the modules of users' tools import from us."""


def prepare_tools() -> None:
    """Bind our own tools to their signatures, play an empty call, and import what users' tools
    import from us: theirs are imported by each worker anew."""
    for tool in _TOOLS:
        bind(tool)
    prepare_command()
    with suppress(ImportError, AttributeError):  # the program uses this package alone
        facade = import_module(FACADE)
        for name in _FOR_TOOLS:
            getattr(facade, name)
