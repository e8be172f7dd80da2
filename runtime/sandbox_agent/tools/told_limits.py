"""What a model is told of the limits that its tools have, and of the places that are closed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
from sandbox_agent_sandbox.limits.struck import shown

from sandbox_agent.journal.events import ToolEntry

if TYPE_CHECKING:
    from sandbox_agent_sandbox.policy.any_policy import AnyLimits

_EACH = (
    ("memory", "{} of memory for all calls together"),
    ("call_memory", "{} of memory a call"),
    ("process_memory", "{} of memory a process"),
    ("processes", "{} processes and threads for all calls together"),
    ("cpu_time", "{} of CPU time a process"),
    ("open_files", "{} open files a process"),
    ("file_size", "{} a file"),
)


WITHOUT_NAMESPACES = (
    "Files: what the user does not show to the tools is there and cannot be opened (Permission"
    " denied); so are /tmp, /var/tmp and /dev/shm. Temporary files go to the folder that TMPDIR"
    " names. screen does not work and does not say so: use tmux."
)
"""For all tools, where the host has no namespaces."""


def with_remark(tool: ToolEntry, remark: str) -> ToolEntry:
    """The tool, with a remark at the end of its description."""
    description = f"{tool.spec.description}\n\n{remark}".lstrip()
    spec = msgspec.structs.replace(tool.spec, description=description)
    return msgspec.structs.replace(tool, spec=spec)


def with_limits(tool: ToolEntry, limits: AnyLimits) -> ToolEntry:
    """The tool, with its limits at the end of its description. limits: of the policy."""
    text = "; ".join(_texts(tool, limits))
    if not text:
        return tool
    return with_remark(tool, f"Limits: {text}. A result names the limit that it met.")


def _texts(tool: ToolEntry, limits: AnyLimits) -> Iterator[str]:
    times = [time for time in (tool.timeout, limits.timeout) if time is not None]
    if times:
        yield f"{shown('timeout', min(times))} a call, whatever it asks for"
    for name, text in _EACH:
        value = getattr(limits, name)
        if value is not None:
            yield text.format(shown(name, value))
