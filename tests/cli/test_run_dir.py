"""`--run-dir`: the folder of a run under a name that a CI job knows. One run has it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import struck
from identity import BIN, Person

PERSONS = ["user"]

AGENT = str(BIN / "sandbox-agent")
FINAL = {"final": "Done."}


def task_of(person: Person, *commands: str) -> Path:
    calls = [{"shell": {"command": command}} for command in commands]
    turns = [{"calls": calls}, FINAL, FINAL] if calls else [FINAL]
    return struck.write_task(person, turns, output={})


def test_a_run_has_the_folder_that_is_named(person: Person) -> None:
    folder = person.work / "artifacts" / "agent-run"
    folder.mkdir(parents=True)
    person.own(folder.parent, folder)
    look = "cat artifacts/agent-run/journal.jsonl || echo hidden; mkdir artifacts/x && echo made"
    done = person.run([AGENT, "run", str(task_of(person, look)), "--run-dir", str(folder)])
    assert done.returncode == 0, done.stderr
    assert f"record: {folder}" in done.stderr
    journal = (folder / "journal.jsonl").read_text()
    assert "hidden\\nmade" in journal, "tools do not see the record, and see what lies beside it"
    record = json.loads((folder / "result.json").read_text())
    assert record["run"] == json.loads(journal.splitlines()[0])["run"] != "agent-run"
    again = person.run([AGENT, "resume", str(folder), "--prompt", "again"])
    assert again.returncode == 0, again.stderr
    after = json.loads((folder / "result.json").read_text())
    assert (after["run"], after["segment"]) == (record["run"], 2)


PROGRAM = """
import sys
from sandbox_agent import Conversation
with Conversation(model="scripted:steps.yaml", tools=["shell"], run_dir="kept") as conversation:
    conversation.send_message("go")
    print(conversation.run().run_dir)
"""


def test_a_program_names_the_folder_too(person: Person) -> None:
    person.write(person.work / "steps.yaml", json.dumps([FINAL]))
    argv = [str(BIN / "python"), "-c", PROGRAM]
    done = person.run(argv)
    assert (done.returncode, done.stdout) == (0, f"{person.work / 'kept'}\n"), done.stderr
    again = person.run(argv)
    assert again.returncode == 1 and "holds a run already" in again.stderr


def test_a_second_run_is_refused_and_touches_nothing(person: Person) -> None:
    """The report lies in the folder, too."""
    task, folder = task_of(person), person.work / "agent-run"
    argv = [AGENT, "run", str(task), "--run-dir", str(folder), "--junit", f"{folder}/junit.xml"]
    done = person.run(argv)
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(folder)) == ["journal.jsonl", "junit.xml", "result.json"]
    assert folder.stat().st_mode & 0o777 == 0o700
    before = (folder / "journal.jsonl").read_bytes()
    done = person.run(argv)
    assert done.returncode == 2
    assert sorted(os.listdir(folder)) == ["journal.jsonl", "junit.xml", "result.json"]
    assert f"{folder} holds a run already" in done.stderr
    assert f"hint: `sandbox-agent resume {folder}` continues it" in done.stderr
    assert (folder / "journal.jsonl").read_bytes() == before


def test_of_two_runs_at_the_same_time_one_gets_the_folder(person: Person) -> None:
    """Both wait until the other one has started: a named pipe opens when both ends do."""
    task, folder = task_of(person, "sleep 0.2"), person.work / "agent-run"
    os.mkfifo(person.work / "gate")
    person.own(person.work / "gate")
    argv = ["sh", "-c", '"$0" gate; exec "$@"']
    agent = [AGENT, "run", str(task), "--run-dir", str(folder)]
    with (
        person.start([*argv[:2], ': > "$0"; exec "$@"', "gate", *agent]) as one,
        person.start([*argv[:2], ': < "$0"; exec "$@"', "gate", *agent]) as other,
    ):
        ends = [process.communicate(timeout=60)[1] for process in (one, other)]
    assert sorted((one.returncode, other.returncode)) == [0, 2], ends
    refused = ends[0] if one.returncode else ends[1]
    assert f"{folder} holds a run already" in refused or f"{folder} was taken" in refused
    events = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events].count("journal") == 1
    assert events[-1]["event"] == "segment_ended"


def test_a_folder_that_is_no_place_for_a_run_is_refused(person: Person) -> None:
    task = task_of(person)
    full = person.work / "full"
    full.mkdir()
    person.own(full)
    person.write(full / "file", "")
    for folder, what in (
        (full, "is not empty"),
        (full / "file", "cannot be read: Not a directory"),
    ):
        done = person.run([AGENT, "run", str(task), "--run-dir", str(folder)])
        assert (done.returncode, what in done.stderr) == (2, True), done.stderr
    (full / "file").unlink()
    (person.work / "link").symlink_to(full)
    (person.work / "above").symlink_to(person.folder)
    for name, what in (("link", "is a link"), ("above/new", "leads out of it")):
        done = person.run([AGENT, "run", str(task), "--run-dir", name])
        assert (done.returncode, what in done.stderr) == (2, True), done.stderr
    for argv, what in (
        (["--workspace", str(full), "--run-dir", str(full)], "contains the workspace"),
        (["--out", "x", "--run-dir", "y"], "--out has no effect beside --run-dir"),
    ):
        done = person.run([AGENT, "run", str(task), *argv])
        assert (done.returncode, what in done.stderr) == (2, True), done.stderr
    done = person.run([AGENT, "validate", str(task), "--run-dir", "y"])
    assert done.returncode == 0, done.stderr
