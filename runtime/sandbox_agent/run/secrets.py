"""Secrets of the agent's own environment stay there: no record holds one, and no tool gets the key
of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from sandbox_agent.errors import ConfigError
from sandbox_agent.models import Model

if TYPE_CHECKING:
    from sandbox_agent.config.any_settings import AnySettings

_SHORTEST = 8
"""Characters. Placeholders for a key that is not needed ("none", "EMPTY") are shorter, and many
variables have such a value."""


def _free_texts(options: Mapping[str, Any]) -> Iterator[str]:
    """Texts of a model's options that may be anything. Of an address only its path: a placeholder
    for a key ("lm-studio") may also be the name of a host."""
    if base := options.get("api_base"):
        from urllib.parse import urlsplit

        yield urlsplit(str(base)).path
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


def check_keys(settings: AnySettings, model: Model, environ: Mapping[str, str]) -> None:
    """Raises ConfigError if a secret would get into the record, or the model's key to the tools.

    environ: the environment that holds the secrets.
    """
    owner = cache(partial(_owner, cache(partial(_secrets, environ))))
    for text in _free_texts(model.options):
        if (whose := owner(text)) is not None:
            raise ConfigError(
                f"its options hold the value of {whose}, and are written into the record of every "
                "run",
                field="model",
                hint="remove it from params and api_base; the key is read from the environment",
            )
    env = settings.sandbox.env
    if settings.instructions is not None and (whose := owner(settings.instructions)) is not None:
        raise ConfigError(
            f"the text holds the value of {whose}, and is written into the record of every run",
            field="instructions",
            hint="remove it; no model needs it",
        )
    for name, value in env.set.items():
        if (whose := owner(value)) is not None:
            raise ConfigError(
                f"{name} holds the value of {whose}, and what is set here is written into the "
                "record of every run",
                field=f"sandbox.env.set.{name}",
                hint="remove it; give the tools a key in a variable of its own, named in env.pass",
            )
    for name in env.pass_:
        if name in model.keys:
            raise ConfigError(
                f"{name} holds the key of {model.name}, and every tool would see it",
                field="sandbox.env.pass",
                hint="remove it; give the tools a key in a variable of another name",
            )


def _secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """The values of an environment that are secrets, with their names."""
    # Imported here, since most runs have no text that could hold one.
    from sandbox_agent_sandbox.policy.fields.secrets import looks_secret

    return {
        value: name
        for name, value in environ.items()
        if len(value) >= _SHORTEST and looks_secret(name, value)
    }


def _owner(secrets: Callable[[], dict[str, str]], text: str) -> str | None:
    """The variable whose secret stands in a text."""
    return next((whose for secret, whose in secrets().items() if secret in text), None)
