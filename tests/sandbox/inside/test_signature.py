"""What a model gets as a function's description, and which arguments are accepted from it."""

from __future__ import annotations

import enum
import functools
import json
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, TypedDict

import msgspec
import pytest
from sandbox_agent.tools.decorator import tool
from sandbox_agent_ipc.messages import FunctionRef, ToolSpec
from sandbox_agent_ipc.token import CancelToken, RunToken
from sandbox_agent_sandbox.inside.worker.signature import SignatureError, describe, read_signature

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForCheckers

REF = FunctionRef("module", "function")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Options(TypedDict, total=False):
    depth: int


@dataclass
class Point:
    x: int
    y: int = 0


class Query(msgspec.Struct):
    """A question."""

    text: str
    at: Point


class Node(msgspec.Struct):
    name: str
    children: list[Node] = []


def properties(function: Any) -> dict[str, Any]:
    found = described(function).parameters["properties"]
    assert isinstance(found, dict)
    return found


def described(function: Any) -> ToolSpec:
    spec = describe(function, REF)
    json.dumps(spec.parameters)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(spec), type=ToolSpec) == spec
    return spec


def call(function: Any, arguments: str, token: CancelToken | None = None) -> Any:
    positional, by_name = read_signature(function).decode(arguments.encode(), token or RunToken())
    return function(*positional, **by_name)


def test_a_plain_function_is_described_by_its_signature_and_docstring() -> None:
    def search(query: str, limit: int = 10) -> None:
        """Search the index.

        Slow on Mondays.

        Args:
            query: what to look for,
                in any language
            limit (int): how many

        Returns:
            nothing
        """

    spec = described(search)
    assert spec.name == "search"
    assert spec.description == "Search the index.\n\nSlow on Mondays."
    assert spec.parameters == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "what to look for, in any language"},
            "limit": {"type": "integer", "default": 10, "description": "how many"},
        },
        "required": ["query"],
        "additionalProperties": False,
    }


def numpy_style(a: int, b: int, c: int) -> None:
    """Add.

    Parameters
    ----------
    a, b : int
        The summands.
    c
        Ignored.

    Returns
    -------
    int
        The sum.
    """


def rest_style(a: int, b: int, c: int) -> None:
    """Add.

    :param a: The summands.
    :param int b: The
        summands.
    :param c: Ignored.
    :returns: the sum
    :rtype: int
    """


@pytest.mark.parametrize("function", [numpy_style, rest_style])
def test_other_docstring_forms_are_read(function: Any) -> None:
    assert described(function).description == "Add."
    texts = [p["description"] for p in properties(function).values()]
    assert texts == ["The summands.", "The summands.", "Ignored."]


def test_a_docstring_of_no_known_form_is_kept_whole() -> None:
    def f() -> None:
        """Note: this

        :warning signs:
            are kept
        """

    assert described(f).description == "Note: this\n\n:warning signs:\n    are kept"


def test_every_json_like_annotation_has_a_schema_and_reaches_the_function() -> None:
    def f(  # type: ignore[no-untyped-def]
        color: Color,
        mode: Literal["r", "w"],
        names: list[str],
        table: dict[str, int],
        options: Options,
        point: Point,
        query: Query,
        path: Path,
        maybe: Optional[int],  # noqa: UP045
        either: int | str,
        objects: dict[str, object],
        anything,
    ) -> Any:
        return locals()

    shown = properties(f)
    assert shown["color"] == {"enum": ["blue", "red"], "title": "Color"}
    assert shown["mode"] == {"enum": ["r", "w"]}
    assert shown["query"]["properties"]["at"]["properties"]["y"]["default"] == 0
    assert shown["path"] == {"type": "string"}
    assert shown["anything"] == {}
    assert "$ref" not in json.dumps(shown)
    values = call(
        f,
        '{"color": "red", "mode": "w", "names": ["a"], "table": {"a": 1}, "options": {"depth": 2},'
        '"point": {"x": 1}, "query": {"text": "t", "at": {"x": 2, "y": 3}}, "path": "a/b",'
        '"maybe": null, "either": "s", "objects": {"k": [1]}, "anything": [1, null]}',
    )
    assert values == {
        "color": Color.RED,
        "mode": "w",
        "names": ["a"],
        "table": {"a": 1},
        "options": {"depth": 2},
        "point": Point(1),
        "query": Query("t", Point(2, 3)),
        "path": Path("a/b"),
        "maybe": None,
        "either": "s",
        "objects": {"k": [1]},
        "anything": [1, None],
    }


def test_annotated_descriptions_and_constraints_are_shown_and_hold() -> None:
    def f(
        count: Annotated[int, msgspec.Meta(ge=1, description="how many")],
        text: Annotated[str, "some text"] = "x",
        other: Annotated[int | None, "or null"] = None,
    ) -> int:
        """F.

        Args:
            count: not this one
            text: nor this one
        """
        return count

    shown = properties(f)
    assert shown["count"] == {"type": "integer", "minimum": 1, "description": "how many"}
    assert shown["text"] == {"type": "string", "default": "x", "description": "some text"}
    assert shown["other"]["description"] == "or null"
    with pytest.raises(msgspec.ValidationError, match=r">= 1 - at `\$.count`"):
        call(f, '{"count": 0}')


def test_a_type_that_contains_itself_keeps_one_reference() -> None:
    def f(tree: Node) -> Node:
        return tree

    schema = described(f).parameters
    assert schema["properties"]["tree"]["properties"]["children"]["items"] == {
        "$ref": "#/$defs/Node"
    }
    assert list(schema["$defs"]) == ["Node"]
    assert call(f, '{"tree": {"name": "a", "children": [{"name": "b"}]}}').children[0].name == "b"


@pytest.mark.parametrize("optional", [False, True])
def test_a_cancel_token_is_passed_and_never_shown(optional: bool) -> None:
    def wanted(a: int, stop: CancelToken) -> CancelToken:
        return stop

    def could(a: int, stop: CancelToken | None = None) -> CancelToken | None:
        return stop

    function: Any = could if optional else wanted
    token = RunToken()
    assert list(properties(function)) == ["a"]
    assert call(function, '{"a": 1}', token) is token
    with pytest.raises(msgspec.ValidationError, match="unknown field `stop`"):
        call(function, '{"a": 1, "stop": null}')


def test_a_cancel_token_imported_for_checkers_only_is_still_known() -> None:
    source = "def f(token: 'CancelToken', n: int = 1): return token"
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    assert list(properties(namespace["f"])) == ["n"]


def test_defaults_are_the_functions_own_objects() -> None:
    marker = object()
    shared: list[int] = []

    def f(a: Any = marker, b: list[int] = shared, c: str = None) -> Any:  # type: ignore[assignment]  # noqa: RUF013
        return a, b, c

    a, b, c = call(f, "{}")
    assert a is marker and b is shared and c is None
    assert call(f, '{"c": null}')[2] is None
    assert "default" not in properties(f)["a"]
    assert properties(f)["b"]["default"] == []


def test_positional_only_and_keyword_only_parameters_are_passed_rightly() -> None:
    def f(a: int, token: CancelToken, b: int = 2, c: int = 3, /, *, d: int) -> Any:
        return a, b, c, d

    assert call(f, '{"a": 1, "c": 9, "d": 4}') == (1, 2, 9, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("[]", "Expected `object`, got `array`"),
        ("{}", "missing required field `path`"),
        ('{"path": 1}', r"Expected `str`, got `int` - at `\$.path`"),
        ('{"path": "p", "n": "1"}', r"Expected `int`, got `str` - at `\$.n`"),
        ('{"path": "p", "extra": 1}', "unknown field `extra`"),
        ('{"path": ', "truncated"),
        ("", "truncated"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: str, message: str) -> None:
    def f(path: str, n: int = 1) -> None: ...

    with pytest.raises(msgspec.DecodeError, match=message):
        call(f, arguments)


def test_functions_behind_wrappers_methods_and_partials_are_read() -> None:
    def f(a: int, b: Color) -> Any:
        return a, b

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return f(*args, **kwargs)

    class Tools:
        def method(self, a: Color) -> Color:
            return a

        def __call__(self, a: Color) -> Color:
            return a

    assert call(wrapped, '{"a": 1, "b": "red"}') == (1, Color.RED)
    assert call(functools.partial(f, 7), '{"b": "red"}') == (7, Color.RED)
    assert call(Tools().method, '{"a": "red"}') is Color.RED
    assert call(Tools(), '{"a": "red"}') is Color.RED


def test_the_decorator_names_a_tool_and_changes_nothing_else() -> None:
    @tool
    def plain(a: int) -> int:
        return a

    @tool(name="better-name")
    def other(a: int) -> int:
        return a

    assert plain(3) == 3
    assert described(plain).name == "plain"
    assert described(other).name == "better-name"
    assert describe(other, REF, name="given").name == "given"
    with pytest.raises(ValueError, match="1 to 64 letters"):
        tool(name="has space")
    with pytest.raises(TypeError, match="marks functions"):
        tool("name")  # type: ignore[call-overload]


def varargs(*numbers: int) -> None: ...
def kwargs(**options: int) -> None: ...
def unknown_type(thing: OnlyForCheckers) -> None: ...
def no_json(a: int, thing: threading_lock) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def generator() -> typing.Iterator[int]:
    yield 1


class NotJson:
    pass


def custom_class(fine: int, handle: NotJson) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (varargs, r"takes \*numbers"),
        (kwargs, r"takes \*\*options"),
        (unknown_type, "cannot be evaluated.*OnlyForCheckers.*at run time"),
        (no_json, "cannot be evaluated"),
        (generator, "is a generator"),
        (NotJson, "is a class"),
        (custom_class, "parameter handle of custom_class.*NotJson has no JSON form"),
        (lambda: None, "'<lambda>' cannot be a tool's name.*@tool"),
    ],
)
def test_what_a_model_cannot_be_told_is_refused_with_the_mend(function: Any, message: str) -> None:
    with pytest.raises(SignatureError, match=message):
        describe(function, REF)


def test_a_return_annotation_for_checkers_only_does_no_harm() -> None:
    def f(a: int) -> OnlyForCheckers: ...  # type: ignore[empty-body]

    assert list(properties(f)) == ["a"]
