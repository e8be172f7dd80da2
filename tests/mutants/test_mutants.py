"""The list of mutants fits the product and its tests, and a survivor is reported.

`scripts/check --mutants` runs the list itself.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import broken_copy
import pytest
from paths import TESTS

from mutants import __main__ as command
from mutants.all import MUTANTS
from mutants.mutant import SANDBOX, Mutant, mutant

FEWEST = 24


@pytest.mark.parametrize("one", MUTANTS, ids=[one.name for one in MUTANTS])
def test_every_mutant_fits_the_source(one: Mutant) -> None:
    texts = broken_copy.changed(one.name, one.changes)
    assert texts


def test_the_list_is_long_enough_and_says_nothing_twice() -> None:
    assert len({one.name for one in MUTANTS}) == len(MUTANTS) >= FEWEST
    assert len({one.changes for one in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("test", sorted({test for one in MUTANTS for test in one.tests}))
def test_every_named_test_is_there(test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.parse((TESTS / file).read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert name in functions if name else any(one.startswith("test_") for one in functions)


_PLAN = f"{SANDBOX}/policy/environment.py"
_GOLDEN = "sandbox/policy/test_make_plan.py::test_the_default_policy_of_an_ordinary_user"
_LANG = '"LANG": "C.UTF-8",'
CAUGHT = mutant("caught", _GOLDEN, _PLAN, _LANG, '"LANG": "C",')
SURVIVES = mutant("survives", _GOLDEN, _PLAN, _LANG, f"{_LANG}  # as ever")
CANNOT_BE_IMPORTED = mutant(
    "cannot be imported", _GOLDEN, _PLAN, "import os\n", "import os\n\nraise ImportError\n"
)


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *mutants: Mutant
) -> tuple[int, list[str]]:
    monkeypatch.setattr(command, "MUTANTS", mutants)
    monkeypatch.setattr(sys, "argv", ["scripts/check --mutants"])
    code = command.main()
    return code, capsys.readouterr().out.splitlines()


def test_a_mutant_that_no_test_catches_fails_the_command_and_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mutants = (CAUGHT, SURVIVES, CANNOT_BE_IMPORTED)
    code, lines = run(monkeypatch, capsys, *mutants)
    assert code == 1
    assert lines[0].startswith(f"caught: caught: tests/{_GOLDEN} ")
    assert f"NOT CAUGHT: survives: pytest {_GOLDEN}: exit code 0" in lines
    assert f"NOT CAUGHT: cannot be imported: pytest {_GOLDEN}: exit code 4" in lines
    assert lines[-1].endswith("2 not caught: ['survives', 'cannot be imported']")


def test_when_every_mutant_is_caught_the_command_ends_with_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = run(monkeypatch, capsys, CAUGHT)
    assert (code, len(lines)) == (0, 2)


def test_tests_that_the_product_itself_fails_catch_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    failing = tmp_path / "test_failing.py"
    failing.write_text("def test_nothing():\n    raise AssertionError\n")
    code, lines = run(monkeypatch, capsys, mutant("x", str(failing), _PLAN, _LANG, f"{_LANG}  #"))
    assert code == 1
    assert lines[0] == "the product itself fails these tests:"


def test_a_change_that_does_not_fit_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for old in ("no such line", "import "):
        code, lines = run(monkeypatch, capsys, mutant("old", _GOLDEN, _PLAN, old, "x"))
        assert code == 2
        assert lines[0].startswith(f"old does not fit {_PLAN} (")
