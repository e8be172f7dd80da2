"""The shape of the sources: small folders, small files, small functions."""

from __future__ import annotations

import ast
from collections import Counter

from paths import CHECKOUT
from test_dependencies import ALL

FILES = 16
"""Source files in a folder at most; `__init__.py` and one file a verb (`cli/verbs`) not counted."""

LINES = 400
"""Lines in a file at most."""

FUNCTION_LINES = 70
"""Lines in a function at most."""


def test_no_folder_holds_more_files_than_a_reader_can_look_over() -> None:
    counts = Counter(path.parent for path in ALL.values() if path.name != "__init__.py")
    full = {
        str(folder.relative_to(CHECKOUT)): count
        for folder, count in counts.items()
        if count > FILES and folder.name != "verbs"
    }
    assert not full


def test_no_file_is_too_long_to_keep_in_mind() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in ALL.values()}
    long = {str(path.relative_to(CHECKOUT)): n for path, n in lengths.items() if n > LINES}
    assert not long


def test_no_function_is_too_long_to_keep_in_mind() -> None:
    long = [
        f"{path.relative_to(CHECKOUT)}:{node.lineno} {node.name}: {length} lines"
        for path in ALL.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    ]
    assert not long, "\n".join(long)
