"""What git reads in a configuration is what we read in it, whatever the text is."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from sandbox_agent_sandbox.protection.git_parser import as_text, entries

PIECES = (
    *('[core]', '[alias "x"]', '[a "b\\"c\\\\"]', "[a.B]", "[A.b.C]", "[core ]", '[core\t"s"]'),
    *("[core", '["x"]', "[core]]", '[x "y" ]', '[x "y"', "[]", "[x-9]", "[x_9]"),
    *("hooksPath = /x", "a=b", "a", "a =", "A-b9 = c", "a b", "9a = b", "a_b = c", "a\t=\tb"),
    *('"q"', ' = "a b" c ', '= "', '\\"', "\\n", "\\t", "\\b", "\\x", "\\", "\\\n", "\\\r\n"),
    *("#", ";", " # c", "\n", "\n", "\n", "\r\n", "\r", " ", "\t", "\v", "\f", "é", "\ufeff"),
    *("= x ; y", '= x "; y" z', "=x#y", "= a\\\n  b", " = a  \t b  ", "include", "path = ../x"),
)  # fmt: skip


def ours(text: bytes) -> list[tuple[str, str | None]]:
    return [(one.name, one.value) for one in entries(text)]


def gits(text: bytes, file: Path) -> list[tuple[str, str | None]] | None:
    """What git lists; None if it refuses the file."""
    file.write_bytes(text)
    command = ["git", "config", "--no-includes", "--list", "-z", "-f", str(file)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        return None
    found = []
    for one in done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]:
        name, has_value, value = one.partition("\n")
        found.append((name, value if has_value else None))
    return found


def spaced(found: list[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
    """Older versions of git turn a tab inside of a value into a space."""
    return [(name, value and re.sub(r"\s", " ", value)) for name, value in found]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_git_and_we_read_the_same(tmp_path: Path) -> None:
    numbers = random.Random(12)
    understood = 0
    for _ in range(150):
        several = numbers.randint(1, 5)
        text = "".join(numbers.choice(PIECES + ("\n",) * 9) for _ in range(several))
        if numbers.random() < 0.95:
            text = f"[core]\n{text}"
        theirs = gits(text.encode(), tmp_path / "config")
        if theirs is not None:
            understood += bool(theirs)
            assert spaced(ours(text.encode())) == spaced(theirs), text
    assert understood > 10, "most texts must not be nonsense to git"


def test_what_is_before_an_error_is_read_and_nothing_behind_it() -> None:
    assert ours(b"[a]\nb = c\n]\nd = e\n") == [("a.b", "c")]
    assert ours(b'[a]\nb = "c\nd = e\n') == []


def test_each_setting_has_its_place_in_the_text() -> None:
    text = b'[a] b = c\r\n\td = "e\\\n f" ; g\n[h]\ni'
    assert [text[one.begin : one.end] for one in entries(text)] == [
        b"b = c\r\n",
        b'd = "e\\\n f" ; g\n',
        b"i",
    ]


def test_a_setting_that_is_written_anew_is_the_same() -> None:
    text = b'[a "b\\"c"]\nd = "x;y \\\\ \\n\\t" # z\n[e]\nf\n'
    again = b"".join(as_text(one) for one in entries(text))
    assert ours(again) == ours(text)


def test_a_nul_byte_ends_a_value_as_in_c() -> None:
    assert ours(b"[core]\nhooksPath = a\0b\n") == [("core.hookspath", "a")]
