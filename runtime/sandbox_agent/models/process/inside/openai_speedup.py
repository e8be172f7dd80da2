"""Spares messages what the openai library does to every request.

It looks at each field of each message through its type annotations, to rename what Python spells
otherwise and to encode files: nothing that messages in OpenAI's own format need, and half a second
for two thousand of them, in which the loop, and with it every other request, stands still.
Source: `openai/_utils/_transform.py`, https://github.com/openai/openai-python.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any


def spare_messages() -> None:
    """Have messages sent as they are. Where the library is another than is known, nothing."""
    with suppress(ImportError, KeyError):
        from openai.resources.chat.completions import completions

        usual: Any = vars(completions)["async_maybe_transform"]
        if getattr(usual, "spares_messages", False):
            return

        async def transform(data: Any, expected_type: Any) -> Any:
            messages = data.get("messages") if isinstance(data, dict) else None
            if not isinstance(messages, list) or not all(type(one) is dict for one in messages):
                return await usual(data, expected_type)
            rest = await usual({**data, "messages": []}, expected_type)
            return {**rest, "messages": messages}

        vars(transform)["spares_messages"] = True
        vars(completions)["async_maybe_transform"] = transform
