"""What came from outside, as data and text that can be passed on: msgpack, JSON and a terminal."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from sandbox_agent_sandbox.policy.secrets import looks_secret

_DEEPEST = 32
_SHORTEST_SECRET = 4
"""Characters. What is shorter stands in many texts by chance, and is guessed in no time."""

_LONG_SECRET = 8
"""Characters. Shorter ones are parts of words by chance, and are looked for as whole words."""

_MASKED = re.compile(r"(?<![\w-])[\w-]+\*{3,}[\w-]*")


def clean(text: Any) -> str:
    """The text without lone surrogates, which no encoding carries. Two that belong together, and
    came in two pieces, become the character that they are halves of."""
    if not isinstance(text, str):
        text = "" if text is None else str(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        return str(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    return str(text)


def length(text: str) -> int:
    """Bytes of it in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def plain(value: Any, depth: int = 0) -> Any:
    """The value as JSON can hold it and msgpack too: objects of libraries become mappings, numbers
    that fit neither become text, and what lies too deep is left out."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth >= _DEEPEST:
        return None
    if hasattr(value, "model_dump"):
        value = value.model_dump(exclude_none=True)
    if isinstance(value, Mapping):
        return {clean(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    return clean(str(value))


def without_secrets(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """The text with the values of variables that look like secrets replaced by `[NAME]`.

    What providers repeat of a key, "sk-proj-****1a2b", becomes stars: half of a short one shows.
    """
    found = {
        spelt: name
        for name, value in environ.items()
        if len(value) >= _SHORTEST_SECRET and looks_secret(name, value)
        for spelt in (value, quote(value, safe=""))
    }
    # Long ones first: one may be the beginning of another.
    for value in sorted(found, key=len, reverse=True):
        if len(value) >= _LONG_SECRET:
            text = text.replace(value, f"[{found[value]}]")
        elif value in text:
            alone = rf"(?<!\w){re.escape(value)}(?!\w)"
            text = f"[{found[value]}]".join(re.split(alone, text))
    return _MASKED.sub("***", text)


def one_line(text: str, limit: int) -> str:
    """The text on one line of at most `limit` characters, control characters escaped: it is shown
    on terminals, and whoever wrote it is not to be trusted with those."""
    text = " ".join(text[: 4 * limit].split())
    text = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in clean(text))
    return text if len(text) <= limit else text[: limit - 6] + " [...]"
