"""The parameters of a function, as `inspect.signature` gives them, in most cases without `inspect`:
its import takes longer than a whole call.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from enum import Enum
from types import CodeType, FunctionType, MethodType
from typing import Any, Final, Literal, NamedTuple

_GENERATOR, _ASYNC_GENERATOR = 0x20, 0x200
_VARIABLE, _BY_NAME = 0x04, 0x08
"""Bits of `co_flags`: CO_GENERATOR, CO_ASYNC_GENERATOR, CO_VARARGS, CO_VARKEYWORDS."""

_OTHERWISE = ("__wrapped__", "__signature__", "__partialmethod__", "_partialmethod")
"""Attributes by which `inspect.signature` goes instead of the function's own code."""


class Empty(Enum):
    """Stands for no default and no annotation."""

    EMPTY = "empty"


EMPTY: Final = Empty.EMPTY

Kind = Literal["positional only", "either", "by name", "*", "**"]


class RawParameter(NamedTuple):
    """One parameter. default, annotation: EMPTY where there is none."""

    name: str
    kind: Kind
    default: Any = EMPTY
    annotation: Any = EMPTY


def raw_parameters(function: Callable[..., Any]) -> list[RawParameter]:
    """The parameters of anything that can be called, in order.

    Raises TypeError or ValueError where Python knows of no signature.
    """
    if type(function) is FunctionType and not function.__dict__.keys() & set(_OTHERWISE):
        return _of_plain(function)
    import inspect

    kinds: dict[int, Kind] = {
        inspect.Parameter.POSITIONAL_ONLY: "positional only",
        inspect.Parameter.POSITIONAL_OR_KEYWORD: "either",
        inspect.Parameter.VAR_POSITIONAL: "*",
        inspect.Parameter.KEYWORD_ONLY: "by name",
        inspect.Parameter.VAR_KEYWORD: "**",
    }
    empty = inspect.Parameter.empty
    return [
        RawParameter(
            one.name,
            kinds[one.kind],
            EMPTY if one.default is empty else one.default,
            EMPTY if one.annotation is empty else one.annotation,
        )
        for one in inspect.signature(function).parameters.values()
    ]


def _of_plain(function: FunctionType) -> list[RawParameter]:
    code = function.__code__
    defaults, by_name = function.__defaults__ or (), function.__kwdefaults__ or {}
    annotations = function.__annotations__
    positional, only = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    names = code.co_varnames
    found = []
    first_default = positional - len(defaults)
    for at, name in enumerate(names[:positional]):
        default = defaults[at - first_default] if at >= first_default else EMPTY
        kind: Kind = "positional only" if at < code.co_posonlyargcount else "either"
        found.append(RawParameter(name, kind, default))
    at = only
    if code.co_flags & _VARIABLE:
        found.append(RawParameter(names[at], "*"))
        at += 1
    for name in names[positional:only]:
        found.append(RawParameter(name, "by name", by_name.get(name, EMPTY)))
    if code.co_flags & _BY_NAME:
        found.append(RawParameter(names[at], "**"))
    return [one._replace(annotation=annotations.get(one.name, EMPTY)) for one in found]


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether a call gives a generator, or an asynchronous one. As in `inspect`, seen through
    methods and partials."""
    plain: Any = function
    while isinstance(plain, functools.partial | MethodType):
        plain = plain.func if isinstance(plain, functools.partial) else plain.__func__
    code = getattr(plain, "__code__", None)
    flags = code.co_flags if isinstance(code, CodeType) else 0
    return bool(flags & (_GENERATOR | _ASYNC_GENERATOR))


def is_path(custom: object) -> bool:
    """Whether this is one of pathlib's classes for paths of this system. Nobody can name one who
    has not imported it."""
    pathlib = sys.modules.get("pathlib")
    return pathlib is not None and custom in (
        pathlib.Path,
        pathlib.PosixPath,
        pathlib.PurePath,
        pathlib.PurePosixPath,
    )
