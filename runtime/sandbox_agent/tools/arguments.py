"""The arguments of a model's call, checked before anything else uses them.

They may be anything: numbers of 400 digits, text without end, ten thousand brackets. What a message
to a worker or a line of the journal cannot hold is an error of that call, which the model is told.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import msgspec
from sandbox_agent_sandbox.utf8 import without_surrogates

MOST_BYTES = 32 << 20
"""Bytes of the arguments of one call."""
DEEPEST = 64
"""Levels of lists and objects, as in a task file. Python's own limit depends on who asks."""
LONGEST_NAME = 256
"""Characters of a tool's name. A longer one is no tool's, and stands in messages and records."""

_TOO_LONG = "<arguments that are too long>"
"""Stands in the journal for arguments of more than `MOST_BYTES`."""

_SHOWN = 60
_LEAST, _MOST = -(2**63), 2**64 - 1
"""The integers that a message holds."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class BadArguments(Exception):
    """The arguments cannot be used. The model reads the text."""


def read_arguments(tool: str, arguments: dict[str, Any] | str) -> dict[str, Any]:
    """The arguments as an object that a message can hold. tool: its name, for messages.

    Raises BadArguments.
    """
    value: Any = arguments
    if isinstance(arguments, str):
        if arguments == _TOO_LONG or len(arguments) > MOST_BYTES:
            raise BadArguments(f"arguments of {tool} have more than {MOST_BYTES >> 20} MiB")
        try:
            value = _decode(arguments or "{}")
        except RecursionError:
            raise BadArguments(f"arguments of {tool} are nested too deeply") from None
        except (msgspec.MsgspecError, ValueError, OverflowError) as error:
            raise BadArguments(f"arguments of {tool} are not a JSON object: {error}") from None
    problem = _problem(value)
    if problem is not None:
        raise BadArguments(f"arguments of {tool} cannot be used: {problem}")
    read: dict[str, Any] = value
    return read


def recordable(arguments: object) -> dict[str, Any] | str:
    """The arguments as the journal can hold them. What is no JSON object is kept as text; the call
    then ends as an error that quotes it."""
    if isinstance(arguments, str):
        return without_surrogates(arguments) if len(arguments) <= MOST_BYTES else _TOO_LONG
    if isinstance(arguments, dict):
        with suppress(msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError):
            if _problem(arguments) is None:
                encoded = msgspec.json.encode(arguments)
                return _decode(encoded) if len(encoded) <= MOST_BYTES else _TOO_LONG
    # What a program's own model gives may be any object, and may have no text: the text of an
    # integer of 5,000 digits is a ValueError.
    for text in (json.dumps, repr):
        with suppress(Exception):
            return without_surrogates(text(arguments))[:MOST_BYTES]
    return f"<{type(arguments).__name__} without a text>"


def recordable_name(name: str) -> str:
    """The name of a tool as the journal can hold it, cut if it is no tool's."""
    name = without_surrogates(name[: LONGEST_NAME + 1])
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."


def _problem(value: Any) -> str | None:
    """What a message cannot hold of a value, with its place; None if it holds all of it."""
    waiting: list[tuple[str, Any, int]] = [("", value, 1)]
    while waiting:
        place, outer, depth = waiting.pop()
        if depth > DEEPEST:
            return f"they are nested deeper than {DEEPEST} levels"
        for key, one in outer.items() if isinstance(outer, dict) else enumerate(outer):
            if isinstance(one, int):
                why = "" if _LEAST <= one <= _MOST else "the number is too large"
            elif isinstance(one, float):
                why = "" if math.isfinite(one) else "the number is not finite"
            else:
                why = ""
            if why:
                return f"{_shown(f'{place}{key}')}: {why}"
            if isinstance(one, dict | list):
                waiting.append((f"{_shown(f'{place}{key}')}.", one, depth + 1))
    return None


def _shown(place: str) -> str:
    return place if len(place) <= _SHOWN else f"{place[:_SHOWN]}..."
