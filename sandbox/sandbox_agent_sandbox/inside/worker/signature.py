"""A tool's signature as a msgspec Struct: the schema that a model gets, and the validation.

One mechanism for both, so that the schema and the accepted arguments cannot differ.
"""

from __future__ import annotations

import functools
import re
import sys
import typing
from collections.abc import Callable
from types import MethodType, NoneType, SimpleNamespace, UnionType
from typing import Any, NamedTuple, TypeVar

import msgspec
from sandbox_agent_ipc.messages import FunctionRef, ToolSpec
from sandbox_agent_ipc.token import CancelToken

from sandbox_agent_sandbox.errors import SandboxError
from sandbox_agent_sandbox.inside.worker.docstring import read_docstring
from sandbox_agent_sandbox.inside.worker.parameters import (
    EMPTY,
    RawParameter,
    is_generator,
    is_path,
    raw_parameters,
)
from sandbox_agent_sandbox.inside.worker.result_text import has_non_finite
from sandbox_agent_sandbox.inside.worker.schema import object_schema

TOOL_ATTRIBUTE = "__sandbox_agent_tool__"
"""The attribute that `@tool` sets on a function. By name, because the runtime is not imported."""

_RUNS_ALONE = (
    "This tool runs alone: its call begins when all earlier calls of the same turn have ended, and"
    " later ones wait for its end."
)

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ABSENT = object()
"""Stands in a decoded Struct for an argument that was not given: the function then gets its own
default object, and never a copy of it."""


class SignatureError(SandboxError):
    """A function whose signature a model cannot use. The message has the parameter and the hint."""


class Parameter(NamedTuple):
    """One parameter.

    is_token: it receives the call's token, and the model never sees it.
    description: from the annotation; `describe` adds the docstring's.
    """

    name: str
    type: Any
    required: bool
    positional_only: bool
    is_token: bool
    default: Any = None
    description: str = ""


class ArgumentsType(NamedTuple):
    """How to read one tool's arguments. struct: the msgspec type of the JSON object."""

    name: str
    parameters: tuple[Parameter, ...]
    struct: type[msgspec.Struct]

    def decode(self, data: bytes, token: CancelToken) -> tuple[list[Any], dict[str, Any]]:
        """JSON bytes -> the arguments of the function: (positional, by name).

        Raises msgspec.DecodeError (or its ValidationError) when they do not fit.
        """
        values = msgspec.json.decode(data, type=self.struct, dec_hook=_decode_custom)
        positional: list[Any] = []
        by_name: dict[str, Any] = {}
        for parameter in self.parameters:
            value = token if parameter.is_token else getattr(values, parameter.name)
            if parameter.positional_only:
                # Positional arguments can have no gap, so the default is passed too.
                positional.append(parameter.default if value is _ABSENT else value)
            elif value is not _ABSENT:
                by_name[parameter.name] = value
        return positional, by_name

    def summary(self) -> str:
        """The model's parameters in one line, for messages: `path (required), limit`."""
        return ", ".join(
            f"{p.name} (required)" if p.required else p.name
            for p in self.parameters
            if not p.is_token
        )


def read_signature(function: Callable[..., Any]) -> ArgumentsType:
    """Read a function's signature.

    Annotations may be paths and anything that msgspec reads from JSON. A parameter without an
    annotation takes any JSON value. A parameter annotated `CancelToken` (or `CancelToken | None`)
    gets the token.

    Raises SignatureError for `*args`, `**kwargs`, generators, classes and unknown types.
    """
    name = tool_name(function)
    if isinstance(function, type):
        raise SignatureError(f"{name} is a class; a tool is a function")
    if is_generator(function):
        raise SignatureError(f"{name} is a generator; a tool returns its result, e.g. a list")
    try:
        found = raw_parameters(function)
    except (TypeError, ValueError) as error:
        raise SignatureError(f"{name} has no readable signature: {error}") from error
    hints = _hints(name, function, {p.name: p.annotation for p in found})
    parameters = tuple(_parameter(name, p, hints) for p in found)
    return ArgumentsType(name, parameters, _struct(name, parameters))


def describe(
    function: Callable[..., Any], reference: FunctionRef, name: str | None = None
) -> ToolSpec:
    """A function's description for a model: its name, docstring and parameters.

    name: replaces the name from `@tool(name=...)`, or the function's own. Raises SignatureError.
    """
    arguments = read_signature(function)
    schema = _schema(arguments)
    description, explained = read_docstring(getattr(function, "__doc__", None))
    for parameter in arguments.parameters:
        if parameter.is_token:
            continue
        shown = schema["properties"][parameter.name]
        if text := parameter.description or explained.get(parameter.name):
            shown.setdefault("description", text)
        if not parameter.required:
            _show_default(shown, parameter.default)
    name = name or arguments.name
    if not _NAME.fullmatch(name):
        raise SignatureError(
            f"{name!r} cannot be a tool's name: a name has 1 to 64 letters, digits, '_' or '-'; "
            "set one with @tool(name=...)"
        )
    alone = is_exclusive(function)
    if alone:
        description = f"{description}\n\n{_RUNS_ALONE}".strip()
    return ToolSpec(name, description, schema, reference, alone)


def tool_name(function: Callable[..., Any]) -> str:
    """The name from `@tool(name=...)`, else the function's own."""
    marked = getattr(getattr(function, TOOL_ATTRIBUTE, None), "name", None)
    return str(marked or getattr(_innermost(function), "__name__", type(function).__name__))


def is_exclusive(function: Callable[..., Any]) -> bool:
    """Whether no other call of a turn may run at the same time: `@tool(exclusive=True)`."""
    return getattr(getattr(function, TOOL_ATTRIBUTE, None), "exclusive", False) is True


def runs_alone(function: F) -> F:
    """What `@tool(exclusive=True)` does, for our own tools."""
    setattr(function, TOOL_ATTRIBUTE, SimpleNamespace(name=None, exclusive=True))
    return function


def _innermost(function: Any) -> Any:
    """The plain function beneath partials; wrappers made with functools.wraps are kept."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _hints(name: str, function: Any, annotations: dict[str, Any]) -> dict[str, Any]:
    """The annotations of the parameters; strings are evaluated in the function's module.

    The return annotation is left out: there a name may exist for type checkers alone.
    """
    written = _innermost(function)
    if not hasattr(written, "__globals__") and not isinstance(written, MethodType):
        written = type(written).__call__
    while hasattr(written, "__wrapped__"):
        written = written.__wrapped__
    wanted = {k: v for k, v in annotations.items() if v is not EMPTY}
    holder: Any = SimpleNamespace(
        __annotations__=wanted, __globals__=getattr(written, "__globals__", {})
    )
    try:
        try:
            return typing.get_type_hints(holder, include_extras=True)
        except NameError:
            # Linters move an import that only annotations use under `if TYPE_CHECKING`.
            local = {"CancelToken": CancelToken}
            return typing.get_type_hints(holder, localns=local, include_extras=True)
    except Exception as error:
        raise SignatureError(
            f"an annotation of {name} cannot be evaluated: {type(error).__name__}: {error}; "
            "import the name at run time, not only under TYPE_CHECKING"
        ) from error


def _parameter(tool: str, found: RawParameter, hints: dict[str, Any]) -> Parameter:
    if found.kind in ("*", "**"):
        raise SignatureError(
            f"{tool} takes {found.kind}{found.name}, which has no JSON Schema; "
            "name its parameters, or take one list or dict"
        )
    annotation = hints.get(found.name, Any)
    if annotation is object:
        annotation = Any
    required = found.default is EMPTY
    default = None if required else found.default
    is_token = _is_token(annotation)
    text = _annotated_text(annotation)
    if not required and default is None:
        # `path: str = None` is common and imprecise; the model may pass null too.
        annotation = typing.Optional[annotation]  # noqa: UP045 (made from a value)
    return Parameter(
        name=found.name,
        type=annotation,
        required=required,
        positional_only=found.kind == "positional only",
        is_token=is_token,
        default=default,
        description=text,
    )


def _is_token(annotation: Any) -> bool:
    if typing.get_origin(annotation) is typing.Annotated:
        return _is_token(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, UnionType):
        members = [a for a in typing.get_args(annotation) if a is not NoneType]
        return bool(members) and all(_is_token(member) for member in members)
    return isinstance(annotation, type) and issubclass(annotation, CancelToken)


def _annotated_text(annotation: Any) -> str:
    """The text of `Annotated[int, "how many"]`; msgspec handles its own Meta."""
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, str):
            return extra
    return ""


def _struct(tool: str, parameters: tuple[Parameter, ...]) -> type[msgspec.Struct]:
    def use(chosen: tuple[Parameter, ...]) -> type[msgspec.Struct]:
        struct = _make(tool, chosen)
        msgspec.json.Decoder(struct, dec_hook=_decode_custom)
        return struct

    return _name_culprit(tool, parameters, use)


def _schema(arguments: ArgumentsType) -> dict[str, Any]:
    # Not in `read_signature`, which every call pays for: a schema takes half a millisecond.
    def use(chosen: tuple[Parameter, ...]) -> dict[str, Any]:
        return object_schema(_make(arguments.name, chosen), _custom_schema)

    return _name_culprit(arguments.name, arguments.parameters, use)


def _make(tool: str, parameters: tuple[Parameter, ...]) -> type[msgspec.Struct]:
    fields = [
        (p.name, p.type)
        if p.required
        else (p.name, p.type, msgspec.field(default_factory=lambda: _ABSENT))
        for p in parameters
        if not p.is_token
    ]
    return msgspec.defstruct(tool, fields, kw_only=True, forbid_unknown_fields=True)


def _name_culprit(
    tool: str, parameters: tuple[Parameter, ...], use: Callable[[tuple[Parameter, ...]], T]
) -> T:
    """use(parameters). When that fails, a SignatureError that names the parameter at fault."""
    try:
        return use(parameters)
    except Exception as error:
        for parameter in parameters:
            try:
                use((parameter,))
            except Exception as reason:
                why = (str(reason) or type(reason).__name__).splitlines()[0]
                raise SignatureError(
                    f"parameter {parameter.name} of {tool} has a type that cannot be read from "
                    f"JSON: {_shown(parameter.type)} ({why}); use str, "
                    "int, float, bool, list, dict, Literal, an Enum, a TypedDict, a dataclass or "
                    "a Struct"
                ) from reason
        raise SignatureError(f"the signature of {tool} cannot be used: {error}") from error


def _shown(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)


def _custom_schema(custom: type) -> dict[str, Any]:
    if custom is object:
        return {"type": ["null", "boolean", "number", "string", "array", "object"]}
    if is_path(custom):
        return {"type": "string"}
    raise TypeError(f"{custom.__qualname__} has no JSON form")


def _decode_custom(custom: type, value: Any) -> Any:
    if custom is object:
        return value
    if not is_path(custom):
        raise TypeError(f"{custom.__qualname__} has no JSON form")
    if not isinstance(value, str):
        raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
    return custom(value)


def _show_default(shown: dict[str, Any], default: Any) -> None:
    try:
        plain = msgspec.to_builtins(default, str_keys=True, enc_hook=_encode_path)
        msgspec.json.encode(plain)
        has_no_form = has_non_finite(plain)  # it would be null
    except Exception:
        has_no_form = True
    if has_no_form:
        return  # JSON has no form for this default, such as a sentinel: the schema has none
    shown["default"] = plain


def _encode_path(value: Any) -> str:
    pathlib = sys.modules.get("pathlib")
    if pathlib is not None and isinstance(value, pathlib.PurePath):
        return str(value)
    raise NotImplementedError
