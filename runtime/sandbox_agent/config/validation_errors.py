"""What pydantic found wrong, told with file, line, field and hint."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from sandbox_agent.config.yaml_source import PathTuple, SourceMap
from sandbox_agent.errors import ConfigError

MAX_SHOWN = 10
"""Problems that one message lists."""


def config_error(error: ValidationError, model: type[BaseModel], source: SourceMap) -> ConfigError:
    """One ConfigError for all that `error` lists, in the order of the file.

    model: what was validated. source: where its values were written.
    """
    problems = []
    for detail in error.errors(include_url=False, include_input=True):
        path = _written_path(tuple(detail["loc"]), model, source)
        what, hint = _explain(detail, model)
        place = source.position(path)
        problems.append((place.file != source.start.file, place.line or 0, path, what, hint))
    problems.sort(key=lambda problem: problem[:2])
    errors = [source.error(path, what, hint) for _, _, path, what, hint in problems[:MAX_SHOWN]]
    first = errors[0]
    first.others = tuple(errors[1:])
    return first


def suggest(name: str, known: typing.Iterable[str]) -> str:
    """The hint for an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(names)}"


def _written_path(loc: PathTuple, model: type[BaseModel], source: SourceMap) -> PathTuple:
    """`loc` as the file spells it: short forms stand for `{name: ...}` that nobody wrote."""
    path = tuple(part for part in loc if part != "[key]")
    while path and path not in source.places and path[-1] == "name":
        path = path[:-1]
    if path[:1] == ("tools",) and len(path) == 3 and path not in source.places:
        # `- shell: {timeout: 60s}` is validated as `{name: shell, timeout: 60s}`.
        for written in source.places:
            if len(written) == 4 and written[:2] == path[:2] and written[3] == path[2]:
                return written
    return path


def _explain(detail: Mapping[str, Any], model: type[BaseModel]) -> tuple[str, str | None]:
    kind, value = detail["type"], detail.get("input")
    context = detail.get("ctx") or {}
    loc = tuple(detail["loc"])
    if kind == "missing":
        example = "version: 1" if loc == ("version",) else f"{loc[-1]}: ..."
        if loc == ("model",):
            example = "model: scripted:steps.yaml"
        return "is required", f"add `{example}`"
    if kind == "extra_forbidden":
        return "there is no such field", suggest(str(loc[-1]), _fields(model, loc[:-1]))
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f"must be text, not {_shown(value)}", f'put it in quotes: "{_shown(value)}"'
    if kind in ("string_type", "path_type"):
        return f"must be text, not {_kind(value)}", "write text"
    if kind == "list_type":
        item = value if isinstance(value, str) and len(value) < 60 else "..."
        return f"must be a list, not {_kind(value)}", f"write [{item}]"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        if loc[:1] == ("tools",):
            return f"must be a tool, not {_kind(value)}", "write shell, files or module:function"
        return f"must be a mapping, not {_kind(value)}", "write `name: value` lines under it"
    if kind == "literal_error":
        return f"{_shown(value)} is not possible here", f"write {context.get('expected')}"
    if kind == "string_pattern_mismatch":
        return (
            f"{_shown(value)} has characters that are not possible here",
            "write at most 64 letters, digits, dots, dashes and underscores",
        )
    bounds = {
        "greater_than_equal": ("ge", "at least"),
        "greater_than": ("gt", "more than"),
        "less_than_equal": ("le", "at most"),
        "less_than": ("lt", "less than"),
    }
    if kind in bounds:
        name, words = bounds[kind]
        limit = context.get(name)
        return f"{_shown(value)} is out of range", f"write {words} {limit}"
    # Our own validators say "what; hint".
    message = str(detail["msg"]).removeprefix("Value error, ")
    what, separator, hint = message.rpartition("; ")
    return (what, hint) if separator else (message, None)


def _fields(model: type[BaseModel], path: PathTuple) -> list[str]:
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


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "a mapping"


def _shown(value: Any) -> str:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:60] + "..."
