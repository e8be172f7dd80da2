"""The settings of a provider's model beside its name, without importing what asks it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sandbox_agent_sandbox.policy.fields.explain import dotted
from sandbox_agent_sandbox.put_off import expression

TIMEOUT = 300.0
"""Seconds that a provider may be silent."""

RETRIES = 2

THROUGH = "litellm"
"""In the options of a model that journals keep: the library that asks it."""

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

_PRICES = {"input_cost_per_token", "output_cost_per_token"}

_NUMBER = expression(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?[kKmM]?")

_AUTHORIZATION = expression(r"(?i)\s*(Bearer|Basic)\s+(?=\S*[0-9=+/]|\S{20})[\w.~+/=-]{8,}\s*")
"""The value of an Authorization header: RFC 7617, RFC 6750."""

_ROUTERS = (
    "rpm, tpm, itpm, otpm, weight, order, max_parallel_requests, max_budget, budget_duration, "
    "cooldown_time, max_fallbacks, context_window_fallback_dict, retry_policy, retry_strategy, "
    "routing_strategy, tags, guardrails"
)
_CACHES = "caching, cache_key, preset_cache_key, caching_groups, ttl"
_TIMES = "stream_timeout, force_timeout, client_side_timeout"

_WITHOUT_EFFECT = {
    "n": "only one answer of each request is used",
    "functions": "the tools are those of the task",
    "function_call": "the tools are those of the task",
    "acompletion": "requests are always asynchronous",
    **dict.fromkeys(_ROUTERS.split(", "), "only a router or proxy of litellm heeds it"),
    **dict.fromkeys(_CACHES.split(", "), "litellm has no cache here"),
    **dict.fromkeys(_TIMES.split(", "), "model.timeout bounds a request"),
}
"""Arguments of litellm that a request drops, and why: each was tried against a server."""


def check_address(address: str) -> None:
    """Raises ValueError for what is not an address of a server, and for an address with a part that
    may hold a key: a task and its record must not hold keys. The error does not show that part."""
    from urllib.parse import urlsplit  # few tasks name an address

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
    """Raises ValueError for what `params` must not hold: what the program sets itself, what can
    have no effect here, and what looks like a secret, because a task and its record must not hold
    secrets."""
    for name in params:
        if name in OWN_PARAMS:
            raise ValueError(f"{name} is not for params; remove it, or write model.{name}")
        if name in _WITHOUT_EFFECT:
            raise ValueError(f"{name} has no effect here: {_WITHOUT_EFFECT[name]}; remove it")
    prices = [name for name in _PRICES if name in params]
    if len(prices) == 1:
        (missing,) = _PRICES - set(prices)
        raise ValueError(f"{prices[0]} has no effect without {missing}; write both")
    odd = not_finite(dict(params))
    if odd is not None:
        raise ValueError(f"{dotted(odd)} is no finite number; write a number")
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
    why = _why_secret(name, params)
    if why is not None:
        raise ValueError(
            f"{name} {why}; put it into the environment variable that litellm reads it from"
        )


def _why_secret(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    # Imported here, since few tasks have parameters.
    from sandbox_agent_sandbox.policy.fields.secrets import (
        secret_words,
        value_looks_secret,
        words_of,
    )

    words = set(secret_words(words_of(name)))
    if _NUMBER.fullmatch(str(value)):
        # A password may be a number. A number of tokens, or the number of a token, is none.
        words -= {"TOKEN", "TOKENS"}
    if words:
        return "is called like a secret"
    if _AUTHORIZATION.fullmatch(str(value)):
        return "has the form of a key or token"
    return value_looks_secret(str(value))


def not_finite(data: Any) -> tuple[str | int, ...] | None:
    """The path to a number in `data` that is infinite or not a number; None if there is none."""
    if isinstance(data, float):
        return None if math.isfinite(data) else ()
    items = data.items() if isinstance(data, dict) else ()
    for key, value in enumerate(data) if isinstance(data, list) else items:
        found = not_finite(value)
        if found is not None:
            return (key, *found)
    return None
