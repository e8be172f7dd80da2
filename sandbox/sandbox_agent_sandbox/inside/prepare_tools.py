"""What a spawner makes ready whose sandbox may call any tool."""

from __future__ import annotations

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


def prepare_tools() -> None:
    """Bind our own tools to their signatures, and play an empty call."""
    for tool in _TOOLS:
        bind(tool)
    prepare_command()
