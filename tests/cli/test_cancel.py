"""`sandbox-agent cancel`: stops a run from another terminal, and reports if it is not active."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import identity
import observer
import pytest
import struck
from identity import BIN, CHECKOUT, Person

AGENT = str(BIN / "sandbox-agent")


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


def cancel(person: Person, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    runs = str(person.folder / "runs")
    return person.run([AGENT, "cancel", "--out", runs, *argv], **options)


def told(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_a_cancelled_run_leaves_nothing_and_says_so(person: Person) -> None:
    with struck.task_at_work(person, 2) as run:
        everyone = observer.descendants(run.agent.pid)
        with observer.watching(everyone) as handles:
            done = cancel(person, "last", "--wait", "30s")
            # It waited for the record, which is written when the work has stopped.
            left = [one for mark in run.marks for one in observer.marked(mark)]
            result = run.result()
            _, err = run.agent.communicate(timeout=30)
            assert observer.wait_gone(handles, 10)[1] == []
    told(done, 0, "interrupt requested", "interrupted: cancelled from outside")
    assert left == []
    assert run.agent.returncode == 130, err
    assert (result["status"], result["exit_code"]) == ("interrupted", 130)
    assert result["reason"] == "cancelled from outside"
    assert {call["outcome"] for call in result["calls"]} <= {"cancelled", "killed"}
    assert sorted(os.listdir(run.run_folder)) == ["journal.jsonl", "result.json"]


def test_a_second_cancel_skips_the_grace_period(me: Person) -> None:
    with struck.task_at_work(me, script=struck.STUBBORN, grace=60.0) as run:
        told(cancel(me, run.run_folder.name), 0, "interrupt requested")
        observer.eventually(run.was_cancelled, 30)
        told(cancel(me, "last", "--wait", "0.05"), 1, "has not ended after 0.05 seconds")
        _, err = run.agent.communicate(timeout=30)
    assert run.agent.returncode == 130, err


def test_a_command_run_by_exec_is_cancelled_too(me: Person) -> None:
    with struck.command_at_work(me) as run:
        told(cancel(me, "last", "--wait", "30"), 0, "cancelled from outside")
        _, err = run.agent.communicate(timeout=30)
    assert run.agent.returncode == 130, err


def test_a_folder_of_another_user_is_no_run_of_yours(person: Person) -> None:
    task = struck.write_task(person, [{"final": "Done."}])
    assert person.run([AGENT, "run", str(task)]).returncode == 0
    foreign = person.folder / "runs" / "20991231T000000000-abcdef"
    foreign.mkdir(mode=0o700)  # of root, who runs the tests
    told(cancel(person, "last"), 1, "is over: done")


def test_a_run_that_has_ended_is_reported_with_its_status(me: Person) -> None:
    task = struck.write_task(me, [{"final": "Done."}])
    assert me.run([AGENT, "run", str(task)]).returncode == 0
    (folder,) = (me.folder / "runs").iterdir()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    told(cancel(me, "last", "--wait", "1"), 1, f"{folder.name} is over: done")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def _folder(me: Person) -> Path:
    folder = me.folder / "runs" / "odd"
    folder.mkdir(parents=True)
    return folder


def test_a_journal_that_is_no_file_is_no_run(me: Person) -> None:
    """A reader of a named pipe would wait for ever."""
    path = _folder(me) / "journal.jsonl"
    for make in (os.mkfifo, os.mkdir):
        make(path)
        told(cancel(me, str(path.parent)), 2, "journal.jsonl in it is no ordinary file")
        path.rmdir() if path.is_dir() else path.unlink()
    path.touch()
    told(cancel(me, "last"), 1, "has not begun", "start a new run")


def test_a_record_or_pipe_that_is_a_folder_disturbs_no_cancel(me: Person) -> None:
    task = struck.write_task(me, [{"final": "Done."}])
    assert me.run([AGENT, "run", str(task)]).returncode == 0
    (folder,) = (me.folder / "runs").iterdir()
    (folder / "result.json").unlink()
    for name in ("result.json", "control"):
        (folder / name).mkdir()
    told(cancel(me, "last"), 1, "is over: done")


def test_a_run_that_cannot_be_cancelled_from_outside_says_so(me: Person) -> None:
    task = struck.write_task(me, [{"say": "One."}, {"final": "Done."}])
    assert me.run([AGENT, "run", str(task), "--set", "budgets.turns=1"]).returncode == 3
    (folder,) = (me.folder / "runs").iterdir()
    (folder / "control").mkdir()
    done = me.run([AGENT, "resume", str(folder)])
    assert (done.returncode, done.stdout) == (0, "Done.\n"), done.stderr
    assert "warning: `sandbox-agent cancel` cannot reach this run" in done.stderr
    assert "complain(" not in done.stderr  # Python's own way shows the line of source


def test_a_run_whose_agent_is_dead_is_reported(me: Person) -> None:
    with struck.task_at_work(me) as run:
        run.kill()
        assert (run.run_folder / "control").is_fifo()  # what a killed agent leaves
        done = cancel(me, "last")
    name = run.run_folder.name
    told(
        done,
        1,
        f"process {run.agent.pid}) is dead",
        f"`sandbox-agent resume {name}` continues the run",
    )
    # The next segment has a pipe of its own, and leaves none.
    me.write(me.folder / "task" / "steps.yaml", json.dumps([{"say": "x"}, {"final": "On."}]))
    assert me.run([AGENT, "resume", str(run.run_folder)]).stdout == "On.\n"
    assert not (run.run_folder / "control").exists()


@pytest.mark.parametrize(
    ("where", "number", "words"),
    [
        ("after-write", 2, "is dead"),  # it was told something
        ("before-record", 1, "is dead"),
        ("after-write", 3, "is dead"),  # its first segment has begun
        ("before-record", 2, "is over: done"),  # the journal has its end, the record has not
    ],
)
def test_what_a_killed_agent_left_is_judged_by_its_journal(
    me: Person, where: str, number: int, words: str
) -> None:
    script = str(CHECKOUT / "tests" / "promises" / "stops" / "striking_itself.py")
    assert me.run(["python", script, str(me.folder / "x"), where, str(number)]).returncode == -9
    (folder,) = (me.folder / "x" / "runs").iterdir()
    told(cancel(me, str(folder)), 1, folder.name, words)


def test_an_agent_that_dies_during_the_wait_is_reported(me: Person) -> None:
    with struck.task_at_work(me, script=struck.STUBBORN, grace=60.0) as run:
        box: list[subprocess.CompletedProcess[str]] = []
        thread = threading.Thread(target=lambda: box.append(cancel(me, "last", "--wait", "60")))
        thread.start()
        observer.eventually(run.was_cancelled, 30)
        run.agent.send_signal(signal.SIGKILL)
        thread.join(30)
    told(box[0], 1, "interrupt requested", "is dead")


def test_ctrl_c_ends_the_waiting_and_the_run_goes_on_ending(me: Person) -> None:
    with struck.task_at_work(me, script=struck.STUBBORN, grace=1.5) as run:
        argv = [AGENT, "cancel", str(run.run_folder), "--wait", "60"]
        with me.start(argv) as waiting:
            observer.eventually(run.was_cancelled, 30)
            waiting.send_signal(signal.SIGINT)
            assert waiting.wait(10) == 130
        _, err = run.agent.communicate(timeout=30)
    assert run.agent.returncode == 130, err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nobody"], ["there is no run nobody"]),
        (["/nowhere/at/all"], ["is not a run"]),
        (["last"], ["there are no runs"]),
        (["last", "--wait", "long"], ["--wait", "long"]),
        ([], ["RUN"]),
    ],
)
def test_wrong_usage_is_reported(me: Person, argv: list[str], words: list[str]) -> None:
    told(cancel(me, *argv), 2, *words)


def test_the_run_of_another_user_cannot_be_cancelled(me: Person) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with struck.task_at_work(me) as run:
        stranger = next(people := identity.someone("user"))
        try:
            told(cancel(stranger, str(run.run_folder)), 2, "is not yours")
            # Not even when they can see it.
            os.chmod(me.folder, 0o755)
            os.chmod(me.folder / "runs", 0o755)
            os.chmod(run.run_folder, 0o755)
            told(cancel(stranger, str(run.run_folder)), 2, "belongs to another user")
            refused = stranger.run([AGENT, "resume", str(run.run_folder)])
            assert refused.returncode == 2
            assert "belongs to root, not to you" in refused.stderr
        finally:
            next(people, None)
        assert not run.was_cancelled()
        assert run.strike(signal.SIGINT).code == 130


def test_a_tool_cannot_cancel_its_own_run(me: Person) -> None:
    runs = me.folder / "runs"
    tries = [
        f"{AGENT} cancel last --out {runs}; echo code $?",
        f"echo ii > {runs}/$(ls {runs} | head -1)/control; echo code $?",
        "kill -INT 1; kill -TERM 1; echo code $?",
    ]
    turns = [{"calls": [{"shell": {"command": one}} for one in tries]}, {"final": "Not stopped."}]
    task = struck.write_task(me, turns)
    done = me.run([AGENT, "run", str(task)])
    assert (done.returncode, done.stdout) == (0, "Not stopped.\n"), done.stderr
    (folder,) = runs.iterdir()
    journal = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    said = {event["call"]: event["content"] for event in journal if event["event"] == "ended"}
    assert "code 2" in said["call_1_1"]
    assert "code 0" not in said["call_1_1"] + said["call_1_2"]
    assert not any(event["event"] == "cancel_requested" for event in journal)


def test_a_cancel_comes_at_once(me: Person) -> None:
    """By the record's own clock: from the knock to the flag."""
    with struck.task_at_work(me) as run:
        with open(run.run_folder / "control", "wb", buffering=0) as pipe:
            knock = time.monotonic()
            pipe.write(b"i")
        run.agent.communicate(timeout=30)
        (asked,) = (e for e in run.journal() if e["event"] == "cancel_requested")
    assert asked["monotonic"] - knock < 1.0
