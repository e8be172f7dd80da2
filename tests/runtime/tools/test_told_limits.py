"""A model is told the limits of its tools."""

from __future__ import annotations

from sandbox_agent.journal.events import ToolEntry
from sandbox_agent.tools.told_limits import with_limits
from sandbox_agent_ipc.messages import FunctionRef, ToolSpec
from sandbox_agent_sandbox.policy.policy import Limits

TOOL = ToolEntry(ToolSpec("build", "Build it.", {}, FunctionRef("m", "build")))


def told(limits: Limits, timeout: float | None = None) -> str:
    entry = ToolEntry(TOOL.spec, timeout)
    return with_limits(entry, limits).spec.description


def test_the_description_ends_with_every_limit() -> None:
    assert told(Limits()) == (
        "Build it.\n\nLimits: 120 s a call, whatever it asks for; 4 GiB of memory for all calls"
        " together; 1024 processes and threads for all calls together; 3600 s of CPU time a"
        " process; 4096 open files a process; 4 GiB a file. A result names the limit that it met."
    )


def test_the_shorter_time_counts_and_a_limit_that_was_lifted_is_not_told() -> None:
    lifted = dict.fromkeys(["memory", "processes", "cpu_time", "open_files", "file_size"])
    limits = Limits.model_validate({**lifted, "timeout": "1m", "call_memory": "96MiB"})
    assert "Limits: 2 s a call, whatever it asks for; 96 MiB of memory a call. " in told(limits, 2)
    assert "60 s a call" in told(limits, 90)
    nothing = Limits.model_validate({**lifted, "timeout": None})
    assert told(nothing) == "Build it."
