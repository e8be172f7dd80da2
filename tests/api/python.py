"""Python's part of the surface: classes, functions and values by name.

A field or parameter has an entry of its own. Its place counts only where it can be positional.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import PurePath
from types import FunctionType
from typing import Any, is_typeddict

import msgspec

PACKAGES = (
    "sandbox_agent",
    "sandbox_agent.testing",
    "sandbox_agent_sandbox",
    "sandbox_agent_ipc",
)

_PLAIN = (type(None), bool, int, float, str, tuple, frozenset)
"""Types of class attributes that have their value in the entry."""

_SPECIAL = {
    *("__aenter__", "__aexit__", "__aiter__", "__anext__", "__await__", "__bool__", "__call__"),
    *("__contains__", "__enter__", "__exit__", "__getitem__", "__iter__", "__len__"),
    *("__next__", "__str__"),
}
"""Special methods that have entries. Python's others come and go with its versions."""

_UNPACKED = re.compile(r"Unpack\[(\w+)\]")


def public_names() -> Iterator[tuple[str, str]]:
    """All names in `__all__` of the packages, without the prefix `sandbox_agent`."""
    for package in PACKAGES:
        module = import_module(package)
        for name in getattr(module, "__all__", ()):
            full = f"{package}.{name}".removeprefix(f"{PACKAGES[0]}.")
            yield from _value(full, getattr(module, name))


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
    if is_typeddict(cls):
        yield name, "TypedDict"
        for option, text in cls.__annotations__.items():
            text = getattr(text, "__forward_arg__", text)
            yield f"{name}.{option}", _annotation(text)
        return
    bases = ", ".join(base.__name__ for base in cls.__mro__[1:] if base is not object)
    kind = "enum" if issubclass(cls, enum.Enum) else "class"
    yield name, f"{kind}({_python_independent(bases)}){_settings(cls)}"
    if issubclass(cls, enum.Enum):
        for member in cls:
            yield f"{name}.{member.name}", stable(member.value)
    elif fields := _fields(cls):
        yield from _parameters(name, _with_made(inspect.signature(cls), cls), "{}.{}", fields)
        yield f"{name} (order)", ", ".join(fields)
    elif any(_is_ours(base) and "__init__" in vars(base) for base in cls.__mro__):
        yield from _parameters(name, inspect.signature(cls), "{}({})", {})
        yield from _options(name, inspect.signature(cls), cls.__init__)
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


def _function(
    name: str, function: Any, kind: str = "", *, method: bool = False
) -> Iterator[tuple[str, str]]:
    signature = inspect.signature(function)
    if method:
        _, *others = signature.parameters.values()
        signature = signature.replace(parameters=others)
    inner = inspect.unwrap(function)
    word = "async def" if inspect.iscoroutinefunction(inner) else "def"
    yield name, f"{kind}{word} -> {_annotation(signature.return_annotation)}"
    yield from _parameters(name, signature, "{}({})", {})
    yield from _options(name, signature, inner)


def _options(
    name: str, signature: inspect.Signature, inner: Callable[..., Any]
) -> Iterator[tuple[str, str]]:
    """What `**options: Unpack[Options]` stands for."""
    for one in signature.parameters.values():
        if one.kind is one.VAR_KEYWORD and (found := _UNPACKED.fullmatch(str(one.annotation))):
            options = getattr(inner, "__func__", inner).__globals__[found[1]]
            for option, text in options.__annotations__.items():
                text = getattr(text, "__forward_arg__", text)
                yield f"{name}({option})", f"keyword: {_annotation(text)}"


_UNPACKED = re.compile(r"Unpack\[(\w+)\]")


def _parameters(
    name: str, signature: inspect.Signature, form: str, types: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """One entry for each parameter or field. Its place counts only where it can be positional."""
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
        default = needed if one.default is one.empty else f" = {_default(one.default)}"
        yield form.format(name, one.name), f"{kind}: {text}{default}"


def _with_made(signature: inspect.Signature, cls: type) -> inspect.Signature:
    made = _made(cls)
    given = [
        one.replace(default=made.get(one.name, one.default))
        for one in signature.parameters.values()
    ]
    return signature.replace(parameters=given)


def _default(value: Any) -> str:
    return stable(value.factory() if type(value).__name__ == "Factory" else value)  # msgspec's


def _made(cls: type) -> dict[str, Any]:
    """What the fields hold whose default is made for each instance."""
    if dataclasses.is_dataclass(cls):
        fields = {one.name: one.default_factory for one in dataclasses.fields(cls)}
        makers = {name: one for name, one in fields.items() if one is not dataclasses.MISSING}
    else:
        models = getattr(cls, "model_fields", {})
        makers = {name: one.default_factory for name, one in models.items() if one.default_factory}
    return {name: maker() for name, maker in makers.items()}


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
