"""Arguments of a model's call: what a message cannot hold is an error of that call."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from sandbox_agent.tools.arguments import (
    DEEPEST,
    LONGEST_NAME,
    MOST_BYTES,
    BadArguments,
    read_arguments,
    recordable,
    recordable_name,
)


def deep(levels: int) -> str:
    return '{"a": ' + "[" * (levels - 1) + "]" * (levels - 1) + "}"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('{"command": "ls", "timeout": 5}', {"command": "ls", "timeout": 5}),
        ("", {}),
        ("{}", {}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        ('{"a": 18446744073709551615, "b": -9223372036854775808}', {"a": 2**64 - 1, "b": -(2**63)}),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('{"a": 1e308, "b": [true, null]}', {"a": 1e308, "b": [True, None]}),
    ],
)
def test_an_object_is_read(text: str, read: dict[str, Any]) -> None:
    assert read_arguments("shell", text) == read


def test_an_object_of_all_that_is_allowed_is_read() -> None:
    assert read_arguments("shell", deep(DEEPEST))
    text = "x" * (10 << 20)
    assert read_arguments("shell", json.dumps({"a": text})) == {"a": text}


BAD = {
    "400 digits": (f'{{"timeout": {"9" * 400}}}', "timeout"),
    "400 digits inside": (f'{{"a": {{"b": [1, -{"9" * 400}]}}}}', "a.b.1"),
    "5,000 digits": (f'{{"timeout": {"9" * 5000}}}', ""),
    "a float beyond floats": ('{"timeout": 1e400}', ""),
    "NaN": ('{"timeout": NaN}', ""),
    "Infinity": ('{"timeout": -Infinity}', ""),
    "too deep": (deep(DEEPEST + 1), "deeper than 64"),
    "far too deep": (deep(10_000), "nested"),
    "too long": ('{"a": "' + "x" * MOST_BYTES + '"}', "more than 32 MiB"),
    "half a character": ('{"a": "\\ud83d"}', ""),
    "half a character, raw": ('{"a": "\ud83d"}', ""),
    "a list": ("[1]", "not a JSON object"),
    "null": ("null", "not a JSON object"),
    "half": ('{"command": ', "not a JSON object"),
    "two": ("{}{}", "not a JSON object"),
    "NUL": ("\0", "not a JSON object"),
}


@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD)
def test_anything_else_is_an_error_that_names_the_tool(text: str, words: str) -> None:
    with pytest.raises(BadArguments) as caught:
        read_arguments("shell", text)
    said = str(caught.value)
    assert said.startswith("arguments of shell ")
    assert words in said
    assert len(said) < 300


@pytest.mark.parametrize(
    "arguments",
    [
        {"a": 10**400}, {"a": 10**6000}, {"a": math.nan}, {"a": [math.inf]}, {"a": "\ud83d"},
        {"a": object()}, {1: 2}, {"a": {1, 2}}, {"\udfff": 1}, None, 7, ["a"], b"\xff", "\udfff",
        "{", json.loads(deep(500)), {"a": b"x"},
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_whatever_a_model_gives_can_be_recorded(arguments: Any) -> None:
    kept = recordable(arguments)
    assert msgspec.json.decode(msgspec.json.encode(kept)) == kept
    assert isinstance(kept, str) or kept in ({"a": "eA=="}, {"1": 2}, {"a": [1, 2]})
    if isinstance(kept, str) and not kept.startswith("{}"):
        with pytest.raises(BadArguments):
            read_arguments("shell", kept)


def test_what_fits_is_recorded_as_it_is() -> None:
    given = {"command": "printf '\U0001f600'", "timeout": 2.5, "more": [{"a": None}]}
    assert recordable(given) == given
    assert recordable('{"a": 1}') == '{"a": 1}'


@pytest.mark.parametrize("make", [str, lambda text: {"a": text}], ids=["text", "object"])
def test_arguments_without_end_are_not_recorded(make: Any) -> None:
    kept = recordable(make("x" * (MOST_BYTES + 1)))
    assert len(kept) < 100
    with pytest.raises(BadArguments, match="more than 32 MiB"):
        read_arguments("shell", kept)


def test_a_name_without_end_is_cut() -> None:
    assert recordable_name("shell") == "shell"
    assert recordable_name("a\udfffb\0") == "a?b\0"
    assert len(recordable_name("x" * 500_000)) == LONGEST_NAME + 3
