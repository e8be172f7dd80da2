"""Secrets of the agent's own environment stay there: no record holds one, and no tool is handed the
key that the model is asked with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sandbox_agent_sandbox.secret_looks import looks_secret

from sandbox_agent.errors import ConfigError
from sandbox_agent.models import Model

if TYPE_CHECKING:
    from sandbox_agent_sandbox.policy import EnvPolicy

_SHORTEST = 8
"""Characters. What stands for a key where none is needed ("none", "EMPTY") is shorter, and is the
value of many variables."""


def check_keys(env: EnvPolicy, model: Model, environ: Mapping[str, str]) -> None:
    """Raises ConfigError when a secret would get into the record, or the model's key to the tools.
    environ: where they are."""
    secrets = {
        value: name
        for name, value in environ.items()
        if len(value) >= _SHORTEST and looks_secret(name, value)
    }
    for name, value in env.set.items():
        whose = next((whose for secret, whose in secrets.items() if secret in value), None)
        if whose is not None:
            raise ConfigError(
                f"{name} holds the value of {whose}, and what is set here is written into the "
                "record of every run",
                field=f"sandbox.env.set.{name}",
                mend="remove it; a key for the tools has a variable of its own, named in env.pass",
            )
    for name in env.pass_:
        if name in model.keys:
            raise ConfigError(
                f"{name} is the key with which {model.name} is asked, and every tool would see it",
                field="sandbox.env.pass",
                mend="remove it; a key for the tools has a variable of another name",
            )
