"""Skips the transform that the openai library applies to the messages of every request.

The transform walks each field of each message along its type annotations, to rename fields and to
encode files. Messages in OpenAI's own format need neither. For two thousand messages it takes half
a second, in which the event loop and all other requests stand still.
Source: `openai/_utils/_transform.py`, https://github.com/openai/openai-python.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any


def skip_message_transform() -> None:
    """Makes the library send messages as they are. Does nothing for an unknown version of it."""
    with suppress(ImportError, KeyError):
        from openai.resources.chat.completions import completions

        usual: Any = vars(completions)["async_maybe_transform"]
        if getattr(usual, "skips_messages", False):
            return

        async def transform(data: Any, expected_type: Any) -> Any:
            messages = data.get("messages") if isinstance(data, dict) else None
            if not isinstance(messages, list) or not all(type(one) is dict for one in messages):
                return await usual(data, expected_type)
            rest = await usual({**data, "messages": []}, expected_type)
            return {**rest, "messages": messages}

        vars(transform)["skips_messages"] = True
        vars(completions)["async_maybe_transform"] = transform
