"""The arguments of a request to litellm, and what litellm knows about a model."""

from __future__ import annotations

import math
import os
from functools import lru_cache
from typing import Any

import msgspec
from sandbox_agent_ipc.model_messages import Ask

from . import keys

NO_KEY = "none"
"""Sent to a server at `api_base` if no key is set: libraries require one, and such a server ignores
it."""

_MARGIN = 30.0
"""Seconds that litellm's own timeout is longer than `Ask.timeout`, which must end the request."""

_LONGEST_TIMEOUT = 1e8
"""Seconds. Libraries do not take infinity."""

DEAREST = 1e9
"""US dollars of one answer, at most. Sums of more could be infinite, which no record can hold."""

_REASONING_BACK = {"deepseek", "moonshot"}
"""Providers that refuse a turn with calls without the reasoning that came with it."""

_LOCAL_SERVERS = {"ollama", "ollama_chat"}
"""Providers for which litellm asks the model's server about the model, and blocks meanwhile."""


def provider_of(model: str, api_base: str | None = None) -> str:
    """litellm's name of the provider; "" if it knows none."""
    import litellm

    try:
        return str(litellm.get_llm_provider(model, api_base=api_base)[1])
    except Exception:
        return ""


def arguments_of(ask: Ask, provider: str) -> dict[str, Any]:
    """The arguments of `litellm.acompletion`, new for each attempt, because litellm changes them.

    Raises msgspec.MsgspecError if messages or tools are not JSON.
    """
    messages = msgspec.json.decode(ask.messages)
    if not accepts_images(ask.model):
        messages = _all_without_images(messages)
    given: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(ask.params))
    given |= {
        "model": ask.model,
        "messages": messages,
        "stream": ask.stream,
        "timeout": min(ask.timeout + _MARGIN, _LONGEST_TIMEOUT)
        if math.isfinite(ask.timeout)
        else _LONGEST_TIMEOUT,
        # The retries of litellm and of the library below it, which would multiply ours.
        "num_retries": 0,
        "max_retries": 0,
    }
    if ask.tools:
        given["tools"] = msgspec.json.decode(ask.tools)
    if ask.stream:
        given["stream_options"] = {"include_usage": True}
    if ask.api_base is not None:
        given["api_base"] = ask.api_base
    elsewhere = keys.is_elsewhere(provider, ask.api_base, os.environ)
    if elsewhere and keys.missing(provider, os.environ):
        given["api_key"] = NO_KEY
    return given


def wants_reasoning(provider: str) -> bool:
    """Whether the provider wants the reasoning of a turn back."""
    return provider in _REASONING_BACK


@lru_cache(maxsize=256)
def accepts_images(model: str) -> bool:
    """Whether the model accepts images, as far as litellm knows."""
    import litellm

    try:
        return bool(litellm.supports_vision(model))
    except Exception:
        return False


def without_images(ask: Ask) -> Ask | None:
    """The request without images; None if it would send none."""
    try:
        messages = msgspec.json.decode(ask.messages)
    except msgspec.MsgspecError:
        return None
    imageless = _all_without_images(messages)
    if imageless == messages or not accepts_images(ask.model):
        return None
    return msgspec.structs.replace(ask, messages=msgspec.json.encode(imageless))


def _all_without_images(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [_without_images(message) for message in messages]


def _without_images(message: dict[str, Any]) -> dict[str, Any]:
    """A message with a note in place of its images."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    texts = [part["text"] for part in content if part.get("type") == "text"]
    images = len(content) - len(texts)
    note = f"[{images} image{'s' if images > 1 else ''}, which you cannot see]"
    return message | {"content": "\n".join([*texts, note])}


@lru_cache(maxsize=256)
def window_of(model: str) -> int | None:
    """The model's context window in tokens; None if litellm does not know it."""
    import litellm

    try:
        if provider_of(model) in _LOCAL_SERVERS:
            info = litellm.model_cost.get(model) or {}
        else:
            info = litellm.get_model_info(model)
        window = info.get("max_input_tokens")
        return int(window) if window else None
    except Exception:
        return None


def cost_of(model: str, provider: str, usage: Any) -> float | None:
    """The price of these tokens in USD; None if no price is known."""
    import litellm

    said = getattr(usage, "cost", None)
    if isinstance(said, float | int) and not isinstance(said, bool) and said > 0:
        return float(min(said, DEAREST)) if said == said else None
    try:
        if provider in _LOCAL_SERVERS:
            return 0.0 if model in litellm.model_cost else None
        cost = float(sum(litellm.cost_per_token(model=model, usage_object=usage)))
    except Exception:
        return None
    if cost > 0:
        return min(cost, DEAREST)
    # For providers that set their own prices litellm says 0 if it knows none.
    entry = litellm.model_cost.get(model) or litellm.model_cost.get(model.partition("/")[2]) or {}
    return 0.0 if entry.get("input_cost_per_token") == 0 else None
