"""A policy in a file of its own: the fields of a task's `sandbox:` at the top level."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError
from sandbox_agent_sandbox.policy.policy import Policy

from sandbox_agent.config.task_file import anchor_paths
from sandbox_agent.config.validation_errors import config_error
from sandbox_agent.config.yaml_source import load


def read_policy(path: Path) -> Policy:
    """The policy of a YAML file. Relative paths in it start at its folder. Raises ConfigError."""
    data, source = load(path)
    if not isinstance(data, dict):
        raise source.error((), "must be a mapping", "write `name: value` lines")
    anchor_paths(data, source, [(name, "*") for name in ("read", "write", "hide", "protect")])
    try:
        return Policy.model_validate(data)
    except ValidationError as error:
        raise config_error(error, Policy, source) from None
