"""What pydantic found wrong with a value, in words: what is wrong, and the hint."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from sandbox_agent_sandbox.nearest import did_you_mean

_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


def explain(detail: Mapping[str, Any], model: type[BaseModel]) -> tuple[str, str | None]:
    """What is wrong, and what to do about it.

    detail: one of `ValidationError.errors()`. model: the class that was validated.
    """
    kind, value = detail["type"], detail.get("input")
    context = detail.get("ctx") or {}
    loc = tuple(detail["loc"])
    if kind == "missing":
        return "is required", f"add `{loc[-1]}: ...`"
    if kind == "extra_forbidden":
        return "there is no such field", suggest(str(loc[-1]), _fields(model, loc[:-1]))
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f"must be text, not {_shown(value)}", f'put it in quotes: "{_shown(value)}"'
    if kind in ("bool_type", "bool_parsing"):
        return f"must be true or false, not {_shown(value)}", "write true or false"
    if kind in ("string_type", "path_type"):
        return f"must be text, not {kind_of(value)}", "write text"
    if kind == "list_type":
        item = value if isinstance(value, str) and len(value) < 60 else "..."
        return f"must be a list, not {kind_of(value)}", f"write [{item}]"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"must be a mapping, not {kind_of(value)}", "write `name: value` lines under it"
    if kind == "literal_error":
        return f"{_shown(value)} is not possible here", f"write {context.get('expected')}"
    if kind == "string_pattern_mismatch":
        return (
            f"{_shown(value)} has characters that are not possible here",
            "write at most 64 letters, digits, dots, dashes and underscores",
        )
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"{_shown(value)} is out of range", f"write {words} {context.get(name)}"
    # Our own validators say "what; hint".
    message = str(detail["msg"]).removeprefix("Value error, ")
    what, separator, hint = message.rpartition("; ")
    return (what, hint) if separator else (message, None)


def suggest(name: str, known: Iterable[str]) -> str:
    """The hint for an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    if not names:
        return "there are none here"
    return did_you_mean(name, names) or f"known here: {', '.join(names)}"


def dotted(path: Iterable[str | int]) -> str:
    """A path into data as people write it: `sandbox.read[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def kind_of(value: Any) -> str:
    """What sort of value this is, in the words of a YAML file."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list | tuple) else "a mapping"


def _fields(model: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """Names of the fields of the model at `path` inside `model`, as they are written."""
    current: Any = model
    for part in path:
        if isinstance(part, str) and isinstance(current, type) and issubclass(current, BaseModel):
            named = {field.alias or name: field for name, field in current.model_fields.items()}
            current = _inner_model(named[part].annotation) if part in named else None
    if isinstance(current, type) and issubclass(current, BaseModel):
        return [field.alias or name for name, field in current.model_fields.items()]
    return []


def _inner_model(annotation: Any) -> Any:
    """The model in `X`, `list[X]`, `X | None` and `Annotated[X, ...]`."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    for argument in typing.get_args(annotation):
        found = _inner_model(argument)
        if found is not None:
            return found
    return None


def _shown(value: Any) -> str:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:60] + "..."
