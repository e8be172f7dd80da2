"""Secrets of the agent's own environment stay there: no record holds one, and no tool is handed the
key that the model is asked with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sandbox_agent_sandbox.policy.secrets import looks_secret

from sandbox_agent.errors import ConfigError
from sandbox_agent.models import Model

if TYPE_CHECKING:
    from sandbox_agent_sandbox.policy.policy import EnvPolicy

_SHORTEST = 8
"""Characters. What stands for a key where none is needed ("none", "EMPTY") is shorter, and is the
value of many variables."""


def _told(options: Mapping[str, Any]) -> Iterator[str]:
    """Texts of a model's options that may be anything. No addresses but their paths: a key that is
    none ("lm-studio") may be called like a host."""
    yield urlsplit(str(options.get("api_base") or "")).path
    yield from _texts(options.get("params"))


def _texts(data: Any) -> Iterator[str]:
    match data:
        case str():
            yield data
        case Mapping():
            for pair in data.items():
                yield from _texts(pair)
        case list() | tuple():
            for item in data:
                yield from _texts(item)


def check_keys(env: EnvPolicy, model: Model, environ: Mapping[str, str]) -> None:
    """Raises ConfigError when a secret would get into the record, or the model's key to the tools.
    environ: where they are."""
    secrets = {
        value: name
        for name, value in environ.items()
        if len(value) >= _SHORTEST and looks_secret(name, value)
    }

    def owner(text: str) -> str | None:
        return next((whose for secret, whose in secrets.items() if secret in text), None)

    for text in _told(model.options):
        if (whose := owner(text)) is not None:
            raise ConfigError(
                f"what is said of it beside its name holds the value of {whose}, and is written "
                "into the record of every run",
                field="model",
                hint="remove it from params and api_base; the key is read from the environment",
            )
    for name, value in env.set.items():
        if (whose := owner(value)) is not None:
            raise ConfigError(
                f"{name} holds the value of {whose}, and what is set here is written into the "
                "record of every run",
                field=f"sandbox.env.set.{name}",
                hint="remove it; a key for the tools has a variable of its own, named in env.pass",
            )
    for name in env.pass_:
        if name in model.keys:
            raise ConfigError(
                f"{name} is the key with which {model.name} is asked, and every tool would see it",
                field="sandbox.env.pass",
                hint="remove it; a key for the tools has a variable of another name",
            )
