"""The main job: a project with a failing suite is made, fixed inside the sandbox, and verified."""

from __future__ import annotations

import json
from pathlib import Path

import observer
from identity import BIN, CHECKOUT, Person

# `.ci/run` also runs the demo as root.
PERSONS = ["user"]

AGENT = str(BIN / "sandbox-agent")
SUITE = ["python", "-S", "-m", "unittest"]
"""The project's tests, without any installed package."""


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and not {".git", "__pycache__"} & set(path.parts)
    }


def test_init_and_run_end_with_a_passing_suite(person: Person) -> None:
    demo = person.work / "demo"
    made = person.run([AGENT, "init", "demo"])
    assert made.returncode == 0, made.stderr
    before = files(demo)

    failing = person.run(SUITE, cwd=demo)
    assert failing.returncode == 1, failing.stderr

    runs = person.folder / "runs"
    done = person.run([AGENT, "run", "demo/task.yaml", "--out", str(runs)], timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    # Of ours: that of the failing test is shown, indented.
    assert not [line for line in done.stderr.splitlines() if line.startswith("Traceback")]

    passing = person.run(SUITE, cwd=demo)
    assert passing.returncode == 0, passing.stderr
    after = files(demo)
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed
    assert not {name for name in changed if name.startswith("tests/")}

    (run,) = (path for path in runs.iterdir() if path.is_dir())
    result = json.loads((run / "result.json").read_text())
    assert (result["status"], result["exit_code"], result["survivors"]) == ("done", 0, [])
    assert result["verify"]
    assert {call["outcome"] for call in result["calls"]} <= {"ok", "error"}
    # What the agent made belongs to whom the project belongs to.
    assert {path.stat().st_uid for path in demo.rglob("*")} == {person.uid}


def test_the_script_runs_from_anywhere_and_prints_what_changed(person: Person) -> None:
    temporary = person.folder / "tmp"
    temporary.mkdir()
    person.own(temporary)
    env = {"SANDBOX_AGENT_COMMAND": AGENT, "TMPDIR": str(temporary)}
    done = person.run([str(CHECKOUT / "scripts" / "demo")], env=env, cwd="/", timeout=100)
    assert done.returncode == 0, done.stderr
    assert "What changed:" in done.stdout
    added = [line for line in done.stdout.splitlines() if line.startswith("+")]
    assert added
    assert list(temporary.iterdir()) == []
    assert not any(str(temporary) in process.command for process in observer.everything())
