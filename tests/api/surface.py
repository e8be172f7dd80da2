"""The public surface of the product, read from the running product.

A surface has sections. A section is a flat mapping with an entry for each thing that a program can
depend on: "Conversation.interrupt(exit_code)" -> "keyword: int | None = None". Annotations are the
source's own text, so the entries are the same under every supported Python.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import PurePath
from types import FunctionType
from typing import Any

import msgspec

PACKAGES = ("sandbox_agent", "sandbox_agent_sandbox", "sandbox_agent_ipc")

Lines = dict[str, Any]
Surface = dict[str, Lines]

_SPECIAL = {
    f"__{name}__"
    for name in (
        "aenter aexit aiter anext await bool call contains enter exit getitem iter len next str"
    ).split()
}
"""Special methods that are somebody's own; Python's own come and go with its versions."""


def read() -> Surface:
    """The surface of the product that this process imports."""
    return {
        "python": python(),
        "task file": from_schema(task_schema()),
        "journal": from_schema(journal_schema()),
        "result.json": from_schema(result_schema()),
        "exit codes": exit_codes(),
        "commands": commands(),
    }


def python() -> Lines:
    lines: Lines = {}
    for package in PACKAGES:
        module = import_module(package)
        for name in getattr(module, "__all__", ()):
            full = name if package == "sandbox_agent" else f"{package}.{name}"
            lines.update(_value(full, getattr(module, name)))
    return lines


def task_schema() -> Any:
    """As the command prints it."""
    command = [sys.executable, "-m", "sandbox_agent", "schema"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def journal_schema() -> Any:
    from sandbox_agent.journal.events import AnyEvent

    return msgspec.json.schema(AnyEvent)


def result_schema() -> Any:
    from sandbox_agent.journal.result_file import Record

    return msgspec.json.schema(Record)


def exit_codes() -> Lines:
    from sandbox_agent.cli.verbs import exec as exec_
    from sandbox_agent.journal.status import EXIT_CODES, SURVIVORS
    from sandbox_agent_ipc.errors import SandboxAgentError

    lines: Lines = {f"run {status.value}": code for status, code in EXIT_CODES.items()}
    lines |= {"run survivors": SURVIVORS, "exec timeout": exec_.TIMED_OUT, "exec": exec_.OURS}
    for error in _subclasses(SandboxAgentError):
        code = getattr(error, "exit_code", None)
        if isinstance(code, int) and not error.__name__.startswith("_"):
            lines[error.__name__] = code
    return lines


def _subclasses(root: type) -> Iterator[type]:
    yield root
    for one in root.__subclasses__():
        yield from _subclasses(one)


def commands() -> Lines:
    from sandbox_agent.cli.parser import _build

    return dict(_commands("", _build()))


def _commands(verb: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield name, "command"
                yield from _commands(name, child)
        elif not isinstance(action, argparse._HelpAction):
            value = "" if action.nargs == 0 else f" {action.metavar or action.dest}"
            choices = f" of {sorted(action.choices)}" if action.choices else ""
            default = "" if action.default is None else f" = {stable(action.default)}"
            for name in action.option_strings or [action.dest]:
                kind = "option" if action.option_strings else f"argument {action.nargs or 1}"
                yield f"{verb} {name}".strip(), f"{kind}{value}{choices}{default}"


# Python -------------------------------------------------------------------------------------------


def _value(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, type):
        yield from _class(name, value)
    elif callable(value) and not hasattr(value, "__origin__") and hasattr(value, "__name__"):
        yield from _function(name, value)
    elif name == "__version__":
        yield name, type(value).__name__
    else:
        yield name, stable(value)


def _class(name: str, cls: type) -> Iterator[tuple[str, str]]:
    bases = ", ".join(base.__name__ for base in cls.__mro__[1:] if base is not object)
    kind = "enum" if issubclass(cls, enum.Enum) else "class"
    yield name, f"{kind}({_python_independent(bases)}){_settings(cls)}"
    if issubclass(cls, enum.Enum):
        for member in cls:
            yield f"{name}.{member.name}", stable(member.value)
    elif fields := _fields(cls):
        yield from _parameters(name, inspect.signature(cls), "{}.{}", fields)
        yield f"{name} (order)", ", ".join(fields)
    elif any(_is_ours(base) and "__init__" in vars(base) for base in cls.__mro__):
        yield from _parameters(name, inspect.signature(cls), "{}({})", {})
    for member, owner in _members(cls).items():
        if member not in _fields(cls):
            yield from _member(f"{name}.{member}", inspect.getattr_static(cls, member), owner)


def _python_independent(bases: str) -> str:
    """Classes that some version of Python, msgspec or pydantic puts between are left out."""
    return ", ".join(one for one in bases.split(", ") if one != "ReprEnum" and one[:1] != "_")


def _settings(cls: type) -> str:
    """How a Struct or dataclass behaves, where that is not as by default."""
    if issubclass(cls, msgspec.Struct):
        config = cls.__struct_config__
        words = ("frozen", "order", "array_like", "omit_defaults", "forbid_unknown_fields")
        said = [word for word in words if getattr(config, word)]
        if config.tag is not None:
            said.append(f"{config.tag_field}={config.tag!r}")
    elif dataclasses.is_dataclass(cls):
        params = cls.__dataclass_params__  # type: ignore[attr-defined]
        said = [word for word in ("frozen", "order") if getattr(params, word)]
    else:
        said = []
    return "".join(f" {word}" for word in said)


def _fields(cls: type) -> dict[str, str]:
    """Fields in their order, with their types as the source has them."""
    names: list[str]
    if issubclass(cls, msgspec.Struct):
        names = list(cls.__struct_fields__)
    elif dataclasses.is_dataclass(cls):
        names = [field.name for field in dataclasses.fields(cls)]
    else:
        names = list(getattr(cls, "model_fields", ()))
    return {name: _annotation_of(cls, name) for name in names}


def _annotation_of(cls: type, name: str) -> str:
    for base in cls.__mro__:
        if name in vars(base).get("__annotations__", {}):
            return _annotation(vars(base)["__annotations__"][name])
    return "?"


def _members(cls: type) -> dict[str, type]:
    """Public members and the classes that have them: of this class and of bases of ours that are
    not public themselves."""
    public = {id(getattr(import_module(PACKAGES[0]), one)) for one in _all()}
    found: dict[str, type] = {}
    for base in cls.__mro__:
        if not _is_ours(base) or (base is not cls and id(base) in public):
            continue
        for name in [*vars(base), *vars(base).get("__annotations__", {})]:
            if name in _SPECIAL or not name.startswith("_"):
                found.setdefault(name, base)
    if issubclass(cls, enum.Enum):
        found = {name: base for name, base in found.items() if name not in cls.__members__}
    ours = {name: base for name, base in found.items() if not name.startswith("model_")}
    return dict(sorted(ours.items()))


def _all() -> list[str]:
    return list(import_module(PACKAGES[0]).__all__)


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in PACKAGES


def _member(name: str, value: Any, owner: type) -> Iterator[tuple[str, str]]:
    short = name.rpartition(".")[2]
    if isinstance(value, property):
        text = _annotation(inspect.signature(value.fget).return_annotation)  # type: ignore[arg-type]
        yield name, f"property: {text}{' (settable)' if value.fset else ''}"
    elif isinstance(value, staticmethod | classmethod):
        bound = value.__get__(None, owner)
        yield from _function(name, bound, f"{type(value).__name__} ")
    elif isinstance(value, FunctionType):
        yield from _function(name, value, "", method=True)
    elif isinstance(value, type):
        yield from _class(name, value)
    elif short in vars(owner).get("__annotations__", {}):
        text = _annotation(vars(owner)["__annotations__"][short])
        given = f" = {stable(vars(owner)[short])}" if isinstance(value, _PLAIN) else ""
        yield name, f"attribute: {text}{given}"
    elif isinstance(value, _PLAIN):
        yield name, f"attribute = {stable(value)}"


_PLAIN = (type(None), bool, int, float, str, tuple, frozenset)


def _function(
    name: str, function: Any, kind: str = "", *, method: bool = False
) -> Iterator[tuple[str, str]]:
    signature = inspect.signature(function)
    if method:
        first, *others = signature.parameters.values()
        signature = signature.replace(parameters=others)
    inner = inspect.unwrap(function)
    word = "async def" if inspect.iscoroutinefunction(inner) else "def"
    yield name, f"{kind}{word} -> {_annotation(signature.return_annotation)}"
    yield from _parameters(name, signature, "{}({})", {})


def _parameters(
    name: str, signature: inspect.Signature, form: str, types: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """One line for each parameter or field. Its place counts only where it can be positional."""
    for place, one in enumerate(signature.parameters.values()):
        kind = {
            one.POSITIONAL_ONLY: f"positional only {place}",
            one.POSITIONAL_OR_KEYWORD: f"positional {place}",
            one.VAR_POSITIONAL: "any positional",
            one.KEYWORD_ONLY: "keyword",
            one.VAR_KEYWORD: "any keyword",
        }[one.kind]
        text = types.get(one.name) or _annotation(one.annotation)
        needed = "" if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) else ", required"
        default = needed if one.default is one.empty else f" = {stable(one.default)}"
        yield form.format(name, one.name), f"{kind}: {text}{default}"


def _annotation(value: Any) -> str:
    if value is inspect.Signature.empty:
        return "?"
    if isinstance(value, str):
        return " ".join(value.split())
    return value.__qualname__ if isinstance(value, type) else str(value).replace("typing.", "")


def stable(value: Any) -> str:
    """A text for a value: the same in every process, on every machine and under every Python."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, PurePath):
        return f"Path({str(value)!r})"
    if isinstance(value, tuple | list):
        inner = ", ".join(map(stable, value))
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(stable, value))) + "}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{stable(k)}: {stable(v)}" for k, v in value.items()) + "}"
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value)
    if isinstance(value, msgspec.Struct) or dataclasses.is_dataclass(value):
        fields = {name: getattr(value, name) for name in _fields(type(value))}
        inner = ", ".join(f"{name}={stable(one)}" for name, one in fields.items())
        return f"{type(value).__name__}({inner})"
    args = getattr(value, "__args__", None)
    if args is not None:  # an alias such as `str | Path` or `Callable[..., Any]`
        origin = getattr(getattr(value, "__origin__", None), "__name__", "union")
        return f"{origin}[{', '.join(map(stable, args))}]"
    return getattr(value, "__qualname__", type(value).__qualname__)


# JSON Schema --------------------------------------------------------------------------------------


def from_schema(schema: Any) -> Lines:
    """One line for each field, by its path: "budgets.turns", "ended.outcome", "tools[].spec"."""
    lines: Lines = {}
    _flatten(schema, schema.get("$defs", {}), "", (), lines)
    return lines


def _flatten(node: Any, defs: Any, path: str, above: tuple[str, ...], lines: Lines) -> None:
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        if name not in above:
            _flatten(defs[name], defs, path, (*above, name), lines)
        return
    properties = node.get("properties", {})
    tag = next((one["enum"][0] for one in properties.values() if len(one.get("enum", "")) == 1), "")
    if not path and tag:
        path = tag  # an event, by its kind
        lines[path] = "event"
    for name, child in properties.items():
        full = f"{path}.{name}" if path else name
        needed = {"required": True} if name in node.get("required", ()) else {}
        line = {**_line(child, defs), **needed}
        same = lines.get(full, line) == line
        lines[full] = line if same else {"oneOf": [lines[full], line]}
        _flatten(child, defs, full, above, lines)
    for word in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for child in node.get(word, ()):
            _flatten(child, defs, path, above, lines)
    for word, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(node.get(word), dict):
            _flatten(node[word], defs, path + suffix, above, lines)


def _line(node: Any, defs: Any) -> Any:
    """A schema without its prose, and without the fields of objects, which have their own lines."""
    if isinstance(node, list):
        return [_line(one, defs) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        meant = defs[name]
        rest = {word: one for word, one in node.items() if word not in ("$ref", *_PROSE)}
        body = {"type": "object"} if "properties" in meant else _line(meant, defs)
        return {**body, **rest} if isinstance(body, dict) else body
    kept = {word: one for word, one in node.items() if word not in (*_PROSE, "properties")}
    if "properties" in node:
        kept = {word: one for word, one in kept.items() if word not in ("required", "$defs")}
    return {
        word: one if word in ("default", "const", "enum") else _line(one, defs)
        for word, one in kept.items()
    }


_PROSE = ("description", "title", "examples", "$defs", "$schema")
