"""What can be said of a provider's model beside its name, without importing what asks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TIMEOUT = 300.0
"""Seconds that a provider may be silent."""

RETRIES = 2

_OWN = (
    "model, messages, tools, stream, stream_options, api_base, base_url, timeout, request_timeout, "
    "max_retries, num_retries, mock_response, logger_fn"
)
OWN_PARAMS = frozenset(_OWN.split(", "))
"""Arguments of litellm that this program sets itself."""

_SECRETS = ("key", "token", "secret", "password", "credential", "authorization")


def check_params(params: Mapping[str, Any]) -> None:
    """Raises ValueError for what is not for `params`: what the program sets itself, and what looks
    like a secret, which a task and its record are no place for."""
    for name in params:
        if name in OWN_PARAMS:
            raise ValueError(f"{name} is not for params; remove it, or write model.{name}")
    _refuse_secrets(params)


def _refuse_secrets(params: Any) -> None:
    if isinstance(params, Mapping):
        for name, value in params.items():
            lower = str(name).lower()
            if any(word in lower for word in _SECRETS) and not lower.endswith("tokens"):
                raise ValueError(
                    f"{name} looks like a secret; put it into the environment variable that "
                    "litellm reads it from"
                )
            _refuse_secrets(value)
    elif isinstance(params, list | tuple):
        for value in params:
            _refuse_secrets(value)
