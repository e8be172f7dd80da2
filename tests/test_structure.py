"""The shape of the sources: small folders, small files, small functions.

The import rules, circles among them, are in `test_dependencies.py`.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paths import CHECKOUT
from sources import OURS, ROOTS, Module, Sources

FILES = 16
"""Source files in a folder at most; `__init__.py` and one file a verb (`cli/verbs`) not counted."""

LINES = 400
"""Lines in a file at most."""

FUNCTION_LINES = 70
"""Lines in a function at most."""


def scripts() -> Iterator[Module]:
    """The scripts that are Python."""
    for path in sorted(filter(Path.is_file, (CHECKOUT / "scripts").iterdir())):
        text = path.read_text()
        if text.startswith("#!") and "python" in text.partition("\n")[0]:
            yield Module(f"scripts/{path.name}", path.relative_to(CHECKOUT), text)


ALL = Sources({**OURS, **{script.name: script for script in scripts()}})


def folders_with_too_many_files(sources: Sources) -> Iterator[str]:
    counts = Counter(one.path.parent for one in sources.values() if not one.is_package)
    for folder, count in sorted(counts.items()):
        if count > FILES and folder.parts[-2:] != ("cli", "verbs"):
            yield f"{folder}: {count} files"


def files_with_too_many_lines(sources: Sources) -> Iterator[str]:
    for one in sources.values():
        if one.lines > LINES:
            yield f"{one.path}: {one.lines} lines"


def functions_with_too_many_lines(sources: Sources) -> Iterator[str]:
    for one in sources.values():
        for node in one.functions():
            length = (node.end_lineno or 0) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{one.path}:{node.lineno} {node.name}: {length} lines"


def test_the_counts_see_every_source_file_of_the_checkout() -> None:
    """Counted apart from `Sources`, so that the limits cannot hold for want of files."""
    for root in ROOTS.values():
        on_disk = {path.relative_to(CHECKOUT) for path in (CHECKOUT / root).rglob("*.py")}
        seen = {one.path for one in ALL.values() if one.path.parts[0] == root}
        assert seen == on_disk
        assert len(seen) > 10
    assert {Path("scripts/setup"), Path("scripts/bench")} <= {one.path for one in ALL.values()}
    assert sum(1 for one in OURS.values() for _ in one.functions()) > 1000
    for one in ALL.values():
        compile(one.text, str(one.path), "exec", ast.PyCF_ONLY_AST)


Limit = Callable[[Sources], Iterator[str]]
_HOME = "sandbox_agent.run.end"
_MANY = Sources(
    {f"sandbox_agent.run.more{n}": OURS[_HOME].moved(f"more{n}.py") for n in range(FILES)}
    | {**OURS}
)

LIMITS: tuple[tuple[Limit, Sources], ...] = (
    (folders_with_too_many_files, _MANY),
    (files_with_too_many_lines, OURS.plus(_HOME, "\n" * LINES)),
    (
        functions_with_too_many_lines,
        OURS.plus(_HOME, "\nclass A:\n    async def f():\n" + "        pass\n" * FUNCTION_LINES),
    ),
)
"""Each limit, and sources that are over it."""


@pytest.mark.parametrize("limit", [limit for limit, _ in LIMITS], ids=lambda limit: limit.__name__)
def test_there_are_no(limit: Limit) -> None:
    wrong = list(limit(ALL))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("limit", "over"), LIMITS, ids=[limit.__name__ for limit, _ in LIMITS])
def test_the_count_finds(limit: Limit, over: Sources) -> None:
    assert set(limit(over)) - set(limit(OURS))
