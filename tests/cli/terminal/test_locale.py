"""Whether a person can read more than ASCII."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from sandbox_agent.cli.terminal.locale import is_utf8


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"LANG": "C"}, False),
        ({"LANG": "C.UTF-8"}, True),
        ({"LANG": "de_DE.utf8"}, True),
        ({"LANG": "de_DE.ISO-8859-1"}, False),
        ({"LANG": "de_DE.UTF-8", "LC_CTYPE": "C"}, False),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),
        ({"LANG": "C.UTF-8", "LC_CTYPE": "C.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "C.UTF-8", "LC_ALL": ""}, True),
    ],
)
def test_the_variables_of_the_locale_decide(variables: dict[str, str], expected: bool) -> None:
    assert is_utf8(variables) is expected


@pytest.mark.parametrize(("name", "expected"), [("C", "False"), ("C.UTF-8", "True")])
def test_what_python_sets_itself_does_not_count(name: str, expected: str) -> None:
    code = "from sandbox_agent.cli.terminal.locale import is_utf8; print(is_utf8())"
    env = {"PYTHONPATH": os.pathsep.join(sys.path), "LANG": name}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == expected, done.stderr
