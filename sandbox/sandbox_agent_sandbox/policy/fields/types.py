"""The types of the fields: quantities and paths."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from sandbox_agent_sandbox.policy.fields.units import parse_count, parse_duration, parse_size


def _number_or_text(number: str, pattern: str, description: str) -> WithJsonSchema:
    """The JSON Schema of a quantity: a number of this type from 0 up, or text with a unit."""
    plain = {"type": number, "minimum": 0}
    text = {"type": "string", "pattern": pattern}
    return WithJsonSchema({"anyOf": [plain, text], "description": description})


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    _number_or_text(
        "number",
        r"^([0-9]+(\.[0-9]+)?\s*(ms|min|s|m|h|d)?\s*)+$",
        'Seconds, or text such as "500ms", "90s", "1h30m".',
    ),
]
"""Seconds. `units.parse_duration` reads text with units."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    _number_or_text(
        "integer",
        r"^[0-9]+(\.[0-9]+)?\s*([kKmMgGtT][iI]?)?[bB]?$",
        'Bytes, or text such as "64k", "10MB", "1GiB".',
    ),
]
"""Bytes. `units.parse_size` reads text with units."""

Count = Annotated[
    int,
    BeforeValidator(parse_count),
    _number_or_text(
        "integer", r"^[0-9]+(\.[0-9]+)?[kKmM]?$", 'A whole number, or text such as "200k".'
    ),
]
"""A whole number. `units.parse_count` reads text with units."""


def _usable_path(value: Any) -> Any:
    text = str(value) if isinstance(value, Path) else value
    if isinstance(text, str):
        if not text:
            raise ValueError("a path is empty; name a file or folder, or remove the entry")
        if "\0" in text:
            raise ValueError("a path contains a NUL byte; remove it")
        try:
            return Path(text).expanduser()
        except RuntimeError:  # "~name" of a user that does not exist
            raise ValueError(
                f"{text!r} names the home folder of an unknown user; write the whole path"
            ) from None
    return value


PolicyPath = Annotated[Path, BeforeValidator(_usable_path)]
