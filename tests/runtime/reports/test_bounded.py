"""What a model gave as arguments is kept small, and what is left out is said."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sandbox_agent.reports.bounded import ROOM, bounded


def size(arguments: dict[str, Any] | str) -> int:
    return len(json.dumps(arguments))


def test_ordinary_arguments_stay_as_they_are() -> None:
    arguments = {"command": "ls -l", "timeout": 3.5, "list": [1, {"deep": [None, True, ""]}]}
    assert bounded(arguments) == arguments
    assert bounded("{not json") == "{not json"


@pytest.mark.parametrize(
    "arguments",
    [
        {"content": "x" * 10_000_000},
        {f"key{n}": "y" * 1000 for n in range(10_000)},
        {"k" * 1_000_000: 1},
        {"list": list(range(1_000_000))},
        {"list": [[["z" * 100] * 100] * 100] * 100},
        "a" * 10_000_000,
    ],
    ids=["a long text", "many texts", "a long name", "a long list", "nested lists", "no object"],
)
def test_large_arguments_are_cut_and_say_so(arguments: dict[str, Any] | str) -> None:
    cut = bounded(arguments)
    assert size(cut) < 3 * ROOM
    if next(iter(arguments)) != "k" * 1_000_000:
        assert "left out" in json.dumps(cut)


def test_the_beginning_and_the_end_of_a_long_text_are_kept() -> None:
    cut = bounded({"content": "first" + "x" * 100_000 + "last"})
    assert isinstance(cut, dict)
    head, middle, tail = cut["content"].split("\n")
    assert head.startswith("first")
    assert tail.endswith("last")
    assert middle == f"[... {100_009 - len(head) - len(tail)} characters left out ...]"


def test_the_json_text_of_a_provider_becomes_an_object() -> None:
    assert bounded('{"command": "ls", "timeout": 3}') == {"command": "ls", "timeout": 3}
    for text in (
        "[1]",
        '{"command": ',
        "{} {}",
        '{"a": 1e999}x',
        " {",
        "{" * 100_000,
        '{"a":' * 500,
    ):
        assert isinstance(bounded(text), str)


def test_deep_nesting_ends() -> None:
    deep = bounded('{"a":' * 500 + "1" + "}" * 500)
    assert "nested too deeply" in str(deep)
