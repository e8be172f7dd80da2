"""What litellm is asked, and what it knows of the model."""

from __future__ import annotations

import math
import os
from functools import lru_cache
from typing import Any

import msgspec
from sandbox_agent_ipc.model_messages import Ask

from . import keys

NO_KEY = "none"
"""Sent to servers of one's own when there is no key: libraries insist on one, such servers do not
look at it."""

_MARGIN = 30.0
"""Seconds by which litellm's own timeout is longer than ours, which is the one that counts."""

_LONGEST = 1e8

_THINK_BACK = {"deepseek", "moonshot"}
"""Providers that refuse a turn with calls if it comes back without what was thought before."""

_ASK_THEIR_SERVER = {"ollama", "ollama_chat"}
"""litellm would ask the model's server what it knows of the model, and block meanwhile."""


def provider_of(model: str, api_base: str | None = None) -> str:
    """litellm's name of who is asked; "" when it does not know any."""
    import litellm

    try:
        return str(litellm.get_llm_provider(model, api_base=api_base)[1])
    except Exception:
        return ""


def arguments_of(ask: Ask, provider: str) -> dict[str, Any]:
    """The arguments of `litellm.acompletion`, fresh for each attempt: it changes them.

    Raises msgspec.MsgspecError when messages or tools are no JSON.
    """
    messages = msgspec.json.decode(ask.messages)
    if not sees(ask.model):
        messages = _all_without_images(messages)
    given: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(ask.params))
    given |= {
        "model": ask.model,
        "messages": messages,
        "stream": ask.stream,
        "timeout": min(ask.timeout + _MARGIN, _LONGEST) if math.isfinite(ask.timeout) else _LONGEST,
        # Its own: they repeat behind our back, and each anew.
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


def wants_thoughts(provider: str) -> bool:
    """Whether what the model thought is to be given back with its turn."""
    return provider in _THINK_BACK


@lru_cache(maxsize=256)
def sees(model: str) -> bool:
    """Whether the model takes images, as far as litellm knows."""
    import litellm

    try:
        return bool(litellm.supports_vision(model))
    except Exception:
        return False


def without_images(ask: Ask) -> Ask | None:
    """The request without images; None where there are none that would be sent."""
    try:
        messages = msgspec.json.decode(ask.messages)
    except msgspec.MsgspecError:
        return None
    blind = _all_without_images(messages)
    if blind == messages or not sees(ask.model):
        return None
    return msgspec.structs.replace(ask, messages=msgspec.json.encode(blind))


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
    """Tokens that the model can take in; None when litellm does not know."""
    import litellm

    try:
        if provider_of(model) in _ASK_THEIR_SERVER:
            info = litellm.model_cost.get(model) or {}
        else:
            info = litellm.get_model_info(model)
        window = info.get("max_input_tokens")
        return int(window) if window else None
    except Exception:
        return None


def cost_of(model: str, provider: str, usage: Any) -> float | None:
    """USD of these tokens; None when no price is known."""
    import litellm

    said = getattr(usage, "cost", None)
    if isinstance(said, float | int) and not isinstance(said, bool) and said > 0:
        return float(said) if math.isfinite(said) else None
    try:
        if provider in _ASK_THEIR_SERVER:
            return 0.0 if model in litellm.model_cost else None
        cost = sum(litellm.cost_per_token(model=model, usage_object=usage))
    except Exception:
        return None
    if cost > 0:
        return float(cost)
    # For providers with prices of their own it says 0 when it knows none.
    entry = litellm.model_cost.get(model) or litellm.model_cost.get(model.partition("/")[2]) or {}
    return 0.0 if entry.get("input_cost_per_token") == 0 else None
