"""A disk that fails while a run is looked for, read or removed: that is said, and never a bug."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable
from pathlib import Path

import made_runs
import pytest
from faults import Faults, Operation
from identity import BIN, Person

PERSONS = ["user"]  # what it shows does not depend on who runs the command
VERBS = (
    ("ls",),
    ("show", "last"),
    ("logs", "-f", "fix", "call_1_1"),
    ("rm", "abcdef"),
    ("prune", "--keep", "0s"),
)


def a_run(person: Person) -> Path:
    folder = made_runs.write(person.folder / "runs" / made_runs.ID, made_runs.failed_run())
    (folder / "output").mkdir(exist_ok=True)
    for name in ("output/a.txt", "result.json"):
        (folder / name).write_text("{}")
    person.own(*folder.parent.rglob("*"), folder.parent)
    return folder


def run(
    person: Person, verb: tuple[str, ...], fate: Callable[[Operation], int | None]
) -> tuple[subprocess.CompletedProcess[str], list[Operation]]:
    runs = person.folder / "runs"
    command = [str(BIN / "sandbox-agent"), verb[0], "--out", str(runs), *verb[1:]]
    with Faults(runs, fate, reads=True) as faults:
        return faults.run(person, command), faults.seen


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_each_operation_may_fail(person: Person, verb: tuple[str, ...]) -> None:
    a_run(person)
    done, seen = run(person, verb, lambda operation: None)
    assert done.returncode == 0, done.stderr
    assert seen
    wrong = []
    for number in range(1, len(seen) + 1):
        folder = a_run(person)
        done, _ = run(
            person, verb, lambda one, number=number: errno.EIO if one.number == number else None
        )
        what = f"{seen[number - 1]}: {done.returncode} {done.stdout} {done.stderr}"
        is_said = done.returncode == 0 or "Input/output error" in done.stderr
        is_true = verb[0] != "rm" or done.returncode != 0 or not folder.exists()
        if done.returncode not in (0, 5) or "bug" in done.stderr or not is_said or not is_true:
            wrong.append(what)
        elif verb[0] in ("rm", "prune") and folder.exists():
            again, _ = run(person, ("rm", made_runs.ID), lambda operation: None)
            if again.returncode or folder.exists():
                wrong.append(f"{what}: it cannot be removed any more")
    assert wrong == [], "\n".join(wrong)
