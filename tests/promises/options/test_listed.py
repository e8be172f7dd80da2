"""Every option that a user can give is listed in effects.toml with a test that shows its effect.

So an option that nobody has seen to take effect fails here, also one that is new.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
from api.surface import read
from paths import TESTS
from sources import OURS

LISTED: Mapping[str, Mapping[str, str]] = tomllib.loads(
    Path(__file__).with_name("effects.toml").read_text()
)

_LIBRARY = re.compile(
    r"(Conversation|Conversation\.(resume|interrupt|wait_stopped)|ProviderModel|ReplayModel"
    r"|Sandbox(\.(run|call))?|load_(task|replay))\((?!options\)).*\)|(Budgets|Interrupt|ToolChoice)\.[a-z]\w*"
)
"""What a program gives. `Policy` and its parts are the fields of a task."""

_NOT_GIVEN = {"Budgets.unenforced", "Interrupt.unenforced", "ToolChoice.unenforced"}

_OTHERS = {"PATH", "TERM", "LITELLM_LOG", "USE_LITELLM_PROXY"}
"""Variables that are read, and belong to the system or to litellm."""


def options() -> dict[str, set[str]]:
    surface = read()
    fields = set(surface["task file"])
    whole = {name.rpartition(".")[0] for name in fields} | {"tools"}
    commands = {name for name, what in surface["commands"].items() if what != "command"}
    library = {name for name in surface["python"] if _LIBRARY.fullmatch(name)} - _NOT_GIVEN
    return {
        "task file": fields - whole,
        "commands": commands,
        "python": library,
        "environment": set(variables()) - _OTHERS,
    }


def variables() -> Iterator[str]:
    """Names of variables that our code reads from its environment by name."""
    for module in OURS.values():
        if ".inside" in module.name:
            continue  # within the walls the environment is the policy's
        for node in ast.walk(module.tree):
            match node:
                case (
                    ast.Call(
                        func=ast.Attribute(value=value, attr="get" | "getenv"),
                        args=[ast.Constant(value=str(name)), *_],
                    )
                    | ast.Subscript(value=value, slice=ast.Constant(value=str(name)))
                ):
                    if ast.unparse(value) in ("os", "os.environ", "environ"):
                        yield name
                case ast.Call(func=ast.Name(id="is_on"), args=[ast.Constant(value=str(name))]):
                    yield name


@pytest.mark.parametrize("section", ["task file", "commands", "python", "environment"])
def test_every_option_is_listed_with_a_test(section: str) -> None:
    found, listed = options()[section], set(LISTED[section])
    assert found - listed == set(), "without a test that shows the effect; see effects.toml"
    assert listed - found == set(), "listed, and no option"


@pytest.mark.parametrize("section", ["task file", "commands", "python", "environment"])
def test_every_listed_test_is_there_and_gives_the_option(section: str) -> None:
    wrong = []
    for option, test in LISTED[section].items():
        text = source(test)
        if text is None:
            wrong.append(f"{option}: there is no {test}")
        elif section != "python" and word(option) not in text:
            wrong.append(f"{option}: {test} does not name it")
    assert wrong == []


def word(option: str) -> str:
    """How a test that gives the option spells it."""
    if option.endswith((" run", " task", " command", " name")):
        return option.split()[0]  # an argument: the verb
    return re.split(r"[ .]", option)[-1]


@cache
def source(test: str) -> str | None:
    """The whole file of a test; None if it has no such test."""
    path, _, name = test.partition("::")
    if not (TESTS / path).is_file():
        return None
    text = (TESTS / path).read_text()
    tree = ast.parse(text)
    named = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return text if not name or name in named else None


def test_a_new_option_fails() -> None:
    """The test above can fail: one option less in the list is one that is missing."""
    for section, found in options().items():
        assert found and found - set(list(LISTED[section])[1:])
