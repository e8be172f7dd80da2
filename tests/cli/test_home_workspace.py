"""A workspace that is the home folder, or holds it: refused, unless file and flag say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from identity import BIN, Person

PERSONS = ["user"]

AGENT = str(BIN / "sandbox-agent")
FINAL = {"final": "Done."}
ASKED = "--allow-home"


def task_of(person: Person, path: Path, **workspace: Any) -> list[str]:
    calls = {"calls": [{"shell": {"command": "echo at work > left-by-a-tool"}}]}
    place = {"path": str(path), **workspace}
    steps = person.write(person.folder / "steps.yaml", json.dumps([calls, FINAL, FINAL]))
    task = {"version": 1, "prompt": "x", "model": f"scripted:{steps}", "workspace": place}
    written = person.write(person.folder / "task.yaml", json.dumps({**task, "tools": ["shell"]}))
    return [AGENT, "run", str(written), "--out", str(person.folder / "runs")]


def refused(person: Person, argv: list[str], what: str) -> None:
    done = person.run(argv, cwd=person.folder)
    assert done.returncode == (125 if "exec" in argv else 2), done.stderr
    assert what in done.stderr
    assert "workspace: {path: ..., allow_home: true}" in done.stderr
    assert not (person.home / "left-by-a-tool").exists()
    assert not (person.folder / "left-by-a-tool").exists()


def test_it_is_a_workspace_only_if_the_task_file_and_a_flag_say_so(person: Person) -> None:
    plain = task_of(person, person.home)
    refused(person, plain, f"workspace: {person.home} is your home folder")
    refused(person, [*plain, ASKED], "is your home folder")
    said = task_of(person, person.home, allow_home=True)
    refused(person, said, "is your home folder")
    check = [AGENT, "validate", said[2]]
    refused(person, check, "is your home folder")
    assert person.run([*check, ASKED], cwd=person.folder).returncode == 0
    done = person.run([*said, ASKED], cwd=person.folder)
    assert done.returncode == 0, done.stderr
    assert (person.home / "left-by-a-tool").read_text() == "at work\n"
    (person.home / "left-by-a-tool").unlink()
    (run,) = (path for path in (person.folder / "runs").iterdir() if path.is_dir())
    resume = [AGENT, "resume", str(run), "--prompt", "on"]
    refused(person, resume, "is your home folder")
    assert person.run([*resume, ASKED], cwd=person.folder).returncode == 0


def test_neither_is_a_folder_above_it_nor_a_link_to_it(person: Person) -> None:
    above = task_of(person, person.folder)
    refused(person, above, f"{person.folder} holds your home folder {person.home}")
    (person.folder / "link").symlink_to("home")
    refused(person, task_of(person, person.folder / "link"), "link is your home folder")
    below = person.home / "project"
    below.mkdir()
    person.own(below)
    assert person.run(task_of(person, below), cwd=person.folder).returncode == 0
    assert (below / "left-by-a-tool").exists()


def test_a_single_command_needs_the_flag(person: Person) -> None:
    command = [AGENT, "exec", "--workspace", str(person.home)]
    act = ["--", "touch", "left-by-a-tool"]
    refused(person, [*command, *act], "is your home folder")
    assert person.run([*command, ASKED, *act], cwd=person.folder).returncode == 0
    assert (person.home / "left-by-a-tool").exists()


def test_no_tool_makes_a_run_in_the_folder_of_runs(person: Person) -> None:
    """That of all runs lies in the home folder, and is not there yet: `resume last` would find what
    a tool puts there."""
    state = person.home / ".local/state/sandbox-agent"
    plant = f"mv ~+/.local away; mkdir -p {state}/x && echo pl''anted; echo $?"
    argv = [AGENT, "exec", "--out", str(person.folder / "runs"), "--workspace", str(person.home)]
    done = person.run([*argv, ASKED, "--", "bash", "-c", plant], cwd=person.folder)
    assert "planted" not in done.stdout, done.stdout + done.stderr
    assert list(state.iterdir()) == []
    assert json.loads(next((person.folder / "runs").glob("2*/result.json")).read_text())
