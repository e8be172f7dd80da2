"""Whatever a task file holds, `validate` says in a moment that it is valid, or what is wrong.

The first two hundred files are looked at always, two thousand under `scripts/test --all`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import fuzzed_tasks
import pytest

FEW, MANY = 200, 2000
SECONDS_EACH = 20
"""A hang, and not a busy machine."""


def validated(folder: Path, first: int, count: int) -> list[dict[str, Any]]:
    """What `validate` said of each case, all in one process."""
    script = Path(__file__).with_name("validating_many.py")
    argv = [sys.executable, str(script), str(first), str(count)]
    try:
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired as hang:
        seen = (hang.stdout or b"").splitlines()
        pytest.fail(f"case {first + len(seen)} is not over after 300 s")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, len(lines)) == (0, count), (
        f"case {first + len(lines)} ended the process: {done.stderr[-2000:]}"
    )
    return lines


def complaint(said: dict[str, Any]) -> str:
    """What is wrong with how a case ended; "" if nothing is."""
    code, text = said["code"], said["text"]
    if code not in (0, 2, 4):  # 4: a provider's model whose key is not set
        return f"exit code {code}"
    if "Traceback" in text or "bug" in text:
        return "a traceback"
    if code and ("\n  hint: " not in text or not text.strip()):
        return "no hint"
    if "Input should" in text or "pydantic" in text:
        return "words of the library"
    if code == 0 and ": valid\n" not in text:
        return "nothing said"
    return "" if said["seconds"] < SECONDS_EACH else f"{said['seconds']:.1f} s"


@pytest.mark.parametrize(("first", "count"), [(0, FEW), (FEW, MANY - FEW)], ids=["few", "many"])
def test_every_file_is_valid_or_refused_with_a_hint(tmp_path: Path, first: int, count: int) -> None:
    lines = validated(tmp_path, first, count)
    wrong = [(line["case"], why, line["text"][:500]) for line in lines if (why := complaint(line))]
    assert wrong == []
    codes = [line["code"] for line in lines]
    assert 0.05 < codes.count(0) / count < 0.9, "the cases are all alike"


def test_the_same_number_makes_the_same_case() -> None:
    assert [fuzzed_tasks.make(n) for n in range(50)] == [fuzzed_tasks.make(n) for n in range(50)]
    assert len({str(fuzzed_tasks.make(n)) for n in range(200)}) > 190


@pytest.mark.parametrize(
    "said",
    [
        {"code": 70, "text": "x\n  hint: y", "seconds": 0},
        {"code": 2, "text": "Traceback (most recent call last)\n  hint: y", "seconds": 0},
        {"code": 2, "text": "wrong", "seconds": 0},
        {"code": 0, "text": "", "seconds": 0},
        {"code": 2, "text": "Input should be\n  hint: y", "seconds": 0},
        {"code": 2, "text": "x\n  hint: y", "seconds": 99},
    ],
)
def test_the_check_can_fail(said: dict[str, Any]) -> None:
    assert complaint(said)
