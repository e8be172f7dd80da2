"""The task file of the current folder, where the command line has a prompt and names no file.

Nobody may have meant it: a tool of an earlier run may have put it there. So it is taken for what
it says about the work, and not for more rights than a task without a file has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sandbox_agent_sandbox.policy.paths import is_inside
from sandbox_agent_sandbox.policy.policy import Limits

from sandbox_agent.config.task import Task
from sandbox_agent.config.yaml_source import PathTuple, SourceMap


def refuse_wider(task: Task, source: SourceMap, file: Path) -> None:
    """Raises ConfigError if the file asks for more than a task without a file has. What flags ask
    for is the user's own."""
    for field, asks in _asks(task, os.path.realpath(file.parent)):
        if asks and source.layer(field) < len(source.files):
            raise source.error(
                field,
                f"is more than a task has by default, and you did not name {file}: a tool of an"
                " earlier run may have written it",
                f"look into it; if it is right, name it: sandbox-agent run {file} --prompt ...",
            )


def _asks(task: Task, folder: str) -> Iterator[tuple[PathTuple, bool]]:
    """Each field that may give more rights, and whether it does. folder: of the file."""
    policy = task.sandbox
    yield ("sandbox", "read"), bool(policy.read)
    yield ("sandbox", "write"), bool(policy.write)
    yield ("sandbox", "network"), policy.network != "none"
    yield ("sandbox", "env", "pass"), bool(policy.env.pass_)
    yield ("sandbox", "protect_defaults"), not policy.protect_defaults
    yield ("sandbox", "allow_degraded"), bool(policy.allow_degraded)
    yield ("sandbox", "plan"), policy.plan not in ("auto", "full")
    usual = Limits()
    for name in Limits.model_fields:
        value, most = getattr(policy.limits, name), getattr(usual, name)
        more = most is not None and (value is None or value > most)
        yield ("sandbox", "limits", name), more
    yield ("workspace", "path"), not is_inside(os.path.realpath(task.workspace.path), folder)
    yield ("model", "api_base"), getattr(task.model, "api_base", None) is not None
    for name in type(task.output).model_fields:
        path = getattr(task.output, name)
        outside = path is not None and not is_inside(os.path.realpath(path), folder)
        yield ("output", name), outside
