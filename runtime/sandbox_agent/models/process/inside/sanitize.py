"""Makes data and text from outside safe to pass on: as msgpack, as JSON, and to a terminal."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from sandbox_agent_sandbox.policy.fields.secrets import looks_secret

_MAX_DEPTH = 32
_SHORTEST_SECRET = 4
"""Characters. A shorter value occurs in many texts by chance, and protects nothing."""

_LONG_SECRET = 8
"""Characters. A shorter value is part of words by chance, so only whole words are replaced."""

_MASKED = re.compile(r"(?<![\w-])[\w-]+\*{3,}[\w-]*")


def clean(text: Any) -> str:
    """The text without lone surrogates, which UTF-8 cannot encode. A pair of surrogates that came
    in two pieces becomes its character."""
    if not isinstance(text, str):
        text = "" if text is None else str(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        return str(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    return str(text)


def json_data(value: Any, depth: int = 0) -> Any:
    """The value as JSON and msgpack can hold it: objects of libraries become mappings, numbers that
    do not fit become text, and what is nested too deep becomes None."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth >= _MAX_DEPTH:
        return None
    if hasattr(value, "model_dump"):
        value = value.model_dump(exclude_none=True)
    if isinstance(value, Mapping):
        return {clean(key): json_data(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_data(item, depth + 1) for item in value]
    return clean(str(value))


def without_secrets(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """The text with the values of variables that look like secrets replaced by `[NAME]`.

    A masked key in a provider's message, "sk-proj-****1a2b", becomes `***`: it shows too much of a
    short key.
    """
    found = {
        spelt: name
        for name, value in environ.items()
        if len(value) >= _SHORTEST_SECRET and looks_secret(name, value)
        for spelt in (value, quote(value, safe=""))
    }
    # Long values first: one may be the beginning of another.
    for value in sorted(found, key=len, reverse=True):
        if len(value) >= _LONG_SECRET:
            text = text.replace(value, f"[{found[value]}]")
        elif value in text:
            alone = rf"(?<!\w){re.escape(value)}(?!\w)"
            text = f"[{found[value]}]".join(re.split(alone, text))
    return _MASKED.sub("***", text)


def one_line(text: str, limit: int) -> str:
    """The text on one line of at most `limit` characters. Control characters are escaped, because
    the text is hostile and is shown on terminals."""
    text = " ".join(text[: 4 * limit].split())
    text = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in clean(text))
    return text if len(text) <= limit else text[: limit - 6] + " [...]"
