"""The settings of a provider's model beside its name, without importing what asks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from sandbox_agent_sandbox.policy.secrets import looks_secret

TIMEOUT = 300.0
"""Seconds that a provider may be silent."""

RETRIES = 2

USUAL: dict[str, Any] = {
    "api_base": None,
    "timeout": TIMEOUT,
    "retries": RETRIES,
    "stream": True,
    "params": {},
}
"""The fields that only a provider's model has, with their defaults."""

_OWN = (
    "model, messages, tools, stream, stream_options, api_base, base_url, timeout, request_timeout, "
    "max_retries, num_retries, mock_response, logger_fn"
)
OWN_PARAMS = frozenset(_OWN.split(", "))
"""Arguments of litellm that this program sets itself."""


def check_address(address: str) -> None:
    """Raises ValueError for what is not an address of a server, and for an address with a part that
    may hold a key: a task and its record must not hold keys. The error does not show that part."""
    shown = "" if {"@", "?", "#"} & set(address) else f"{address!r} "
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise ValueError(f"{shown}is not an address; write http://host:port/path") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("has a user or password in it; put the key into the environment")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(f"{shown}is not an address; write http://host:port/path")
    if "?" in address or "#" in address:
        raise ValueError(
            "has a query or fragment in it; write it as params: {extra_query: ...}, and put a key "
            "into the environment"
        )


def check_params(params: Mapping[str, Any]) -> None:
    """Raises ValueError for what `params` must not hold: what the program sets itself, and what
    looks like a secret, because a task and its record must not hold secrets."""
    for name in params:
        if name in OWN_PARAMS:
            raise ValueError(f"{name} is not for params; remove it, or write model.{name}")
    _refuse_secrets(params)


def _refuse_secrets(params: Any, name: str = "") -> None:
    if isinstance(params, Mapping):
        for key, value in params.items():
            _refuse_secrets(value, str(key))
        return
    if isinstance(params, list | tuple):
        for value in params:
            _refuse_secrets(value, name)
        return
    counts = name.lower().endswith("tokens")  # max_tokens and its like
    # First by its name alone, since a key may be a number. Then by what it holds.
    why = (None if counts else looks_secret(name, "?")) or looks_secret("", str(params))
    if why is not None:
        raise ValueError(
            f"{name} {why}; put it into the environment variable that litellm reads it from"
        )
