"""What a host cannot enforce is refused, or goes on by leave of the policy, and is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import struck
from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")
PERSONS = ["root in docker-filter", "user in no-user-namespaces"]
"""There nothing can be hidden inside the workspace, so `hide` is missing."""


@pytest.fixture
def task(person: Person) -> Path:
    person.write(person.work / "secret", "s3cret")
    turns = [{"calls": [{"shell": {"command": "touch ran"}}]}, {"final": "done"}]
    hide = [str(person.work / "secret")]
    return struck.write_task(person, turns, sandbox={"hide": hide})


def record(person: Person) -> Any:
    """The newest record."""
    runs = sorted((person.folder / "runs").glob("*/result.json"))
    return json.loads(runs[-1].read_text())


def test_a_field_that_is_missing_is_refused_unless_it_may_be(person: Person, task: Path) -> None:
    done = person.run([AGENT, "run", str(task)])
    assert done.returncode == 5
    assert "sandbox.hide cannot be enforced here: " in done.stderr
    assert done.stderr.count("hint: ") == 1 and "--allow-degraded" in done.stderr
    assert not (person.work / "ran").exists()

    other = "sandbox.allow_degraded=[protect]"
    assert person.run([AGENT, "run", str(task), "--set", other]).returncode == 5
    for words in (["--allow-degraded"], ["--set", "sandbox.allow_degraded=[hide]"]):
        done = person.run([AGENT, "run", str(task), *words])
        assert done.returncode == 0, done.stderr
        assert "warning: sandbox.hide is not enforced in this run: " in done.stderr
        first = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
        assert first[1].startswith("plan no_namespaces: "), done.stderr
        assert "MISSING, as --allow-degraded allows: sandbox.hide" in first
        assert done.stderr.count("Landlock cannot deny") == 1
        assert (person.work / "ran").exists()
        (person.work / "ran").unlink()
        plan = record(person)["plan"]
        assert (plan["kind"], plan["levels"]["hide"]) == ("no_namespaces", "missing")
        assert list(plan["missing"]) == ["hide"] and plan["left_open"]


def test_a_single_command_says_it_too(person: Person, task: Path) -> None:
    policy = person.write(person.folder / "p.yaml", f"hide: [{person.work}/secret]\n")
    words = ["exec", "--policy", str(policy), "--out", str(person.folder / "runs")]
    done = person.run([AGENT, *words, "--", "true"])
    assert done.returncode == 125
    assert "sandbox.hide cannot be enforced here: " in done.stderr
    done = person.run([AGENT, *words, "--allow-degraded", "--", "true"])
    assert done.returncode == 0, done.stderr
    assert "sandbox.hide is not enforced in this run: " in done.stderr
    assert list(record(person)["plan"]["missing"]) == ["hide"]


def test_the_flag_is_kept_by_resume_and_checked_by_validate(person: Person, task: Path) -> None:
    assert person.run([AGENT, "run", str(task)]).returncode == 5
    runs = str(person.folder / "runs")
    assert person.run([AGENT, "resume", "last", "--out", runs]).returncode == 5
    done = person.run([AGENT, "resume", "last", "--out", runs, "--allow-degraded"])
    assert done.returncode == 0, done.stderr
    assert list(record(person)["plan"]["missing"]) == ["hide"]
    assert person.run([AGENT, "validate", str(task), "--allow-degraded"]).returncode == 0
    twice = ["--allow-degraded", "--set", "sandbox.allow_degraded=[]"]
    done = person.run([AGENT, "validate", str(task), *twice])
    assert done.returncode == 2 and "is given by" in done.stderr


@pytest.mark.parametrize("field", ["allow_degraded: [hide]", "plan: no_namespaces"])
def test_a_task_file_that_nobody_named_cannot_give_leave(person: Person, field: str) -> None:
    """A tool may have written it."""
    text = "version: 1\nprompt: x\nmodel: scripted:steps.yaml\nsandbox: {" + field + "}\n"
    person.write(person.work / "task.yaml", text)
    person.write(person.work / "steps.yaml", "- final: done\n")
    done = person.run([AGENT, "run", "Do something else."])
    assert done.returncode == 2, done.stderr
    assert f"sandbox.{field.partition(':')[0]}" in done.stderr
