"""`sandbox-agent resume`: on with a run that was stopped, ran out, or whose agent was killed."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import identity
import observer
import pytest
import struck
from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")
TURNS: list[dict[str, Any]] = [
    {"calls": [{"shell": {"command": "echo x >> one"}}]},
    {"calls": [{"shell": {"command": "echo x >> two"}}]},
    {"final": "Both."},
]


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


def ran(person: Person, *more: str, turns: list[dict[str, Any]] = TURNS, **task: Any) -> Path:
    """A run that has ended, with its task beside it. Returns its folder."""
    file = struck.write_task(person, turns, **task)
    person.run([AGENT, "run", str(file), *more])
    (folder,) = (person.folder / "runs").iterdir()
    return folder


def resume(person: Person, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    runs = str(person.folder / "runs")
    return person.run([AGENT, "resume", "--out", runs, *argv], **options)


def lines(person: Person, name: str) -> int:
    path = person.work / name
    return len(path.read_text().splitlines()) if path.exists() else 0


def refused(folder: Path, done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_a_spent_budget_goes_on_with_a_raised_one(person: Person, tmp_path: Path) -> None:
    folder = ran(person, "--set", "budgets.turns=1")
    assert json.loads((folder / "result.json").read_text())["exit_code"] == 3
    answer = person.work / "answer"
    done = resume(person, "last", "--set", "budgets.turns=9", "-o", str(answer), "--json")
    assert done.returncode == 0, done.stderr
    assert answer.read_text() == "Both.\n"
    kinds = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert kinds[0] == "segment"
    assert kinds[-1] == "segment_ended"
    assert (lines(person, "one"), lines(person, "two")) == (1, 1)
    assert f"run {folder.name}, resumed\n" in done.stderr


def test_an_interrupted_run_goes_on(me: Person) -> None:
    with struck.task_at_work(me) as run:
        assert run.strike(2).code == 130
    me.write(me.folder / "task" / "steps.yaml", json.dumps([{"say": "gone"}, {"final": "On."}]))
    done = resume(me, run.run_folder.name[:-2])
    assert (done.returncode, done.stdout) == (0, "On.\n"), done.stderr
    assert run.result()["segment"] == 2


def test_a_killed_agents_run_goes_on_with_the_truth(person: Person) -> None:
    with struck.task_at_work(person, 2) as run:
        assert run.kill().code == -9
    steps = person.folder / "other.yaml"
    person.write(steps, json.dumps([{"say": "gone"}, {"final": "On."}]))
    done = resume(person, str(run.run_folder), "--model", f"scripted:{steps}", "--json")
    assert done.returncode == 0, done.stderr
    first, second, *rest = [json.loads(line) for line in done.stdout.splitlines()]
    for event in (first, second):
        assert (event["event"], event["outcome"], event["started"]) == ("ended", "unknown", "yes")
    assert rest[0]["event"] == "segment"
    result = run.result()
    assert (result["status"], result["exit_code"]) == ("done", 0)
    assert [call["outcome"] for call in result["calls"]] == ["unknown", "unknown"]


def test_a_done_run_needs_something_more_to_do(me: Person) -> None:
    folder = ran(me)
    refused(folder, resume(me, "last"), "is done; give the agent something more to do", "--prompt")
    me.write(me.folder / "task" / "steps.yaml", json.dumps([*TURNS, {"final": "More."}]))
    assert resume(me, "last", "--prompt", "and more").stdout == "More.\n"
    # From standard input as well.
    me.write(me.folder / "task" / "steps.yaml", json.dumps([*TURNS, TURNS[-1], {"final": "Yet."}]))
    with open(me.folder / "task" / "steps.yaml") as text:
        assert resume(me, "last", "--prompt", "-", stdin=text).stdout == "Yet.\n"


def test_a_running_run_is_refused(me: Person) -> None:
    with struck.task_at_work(me) as run:
        refused(run.run_folder, resume(me, "last"), "is going", f"cancel {run.run_folder.name}")
        assert run.agent.poll() is None
        assert run.strike(15).code == 143


def test_damaged_and_foreign_journals_are_refused(me: Person) -> None:
    folder = ran(me, "--set", "budgets.turns=1")
    path = folder / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"version":2', b'"version":1', 1))
    refused(
        folder, resume(me, "last"), "journal.jsonl:1:", "version 1;", "hint: nothing is released"
    )
    garbled = whole.replace(b'{"event":"model_turn"', b'{"event":"model_t', 1)
    number = whole[: whole.index(b'{"event":"model_turn"')].count(b"\n") + 1
    path.write_bytes(garbled)
    refused(folder, resume(me, "last"), f"journal.jsonl:{number}: this line is not an event")
    assert path.read_bytes() == garbled
    path.write_bytes(b"")
    refused(folder, resume(me, "last"), "ends before the first message to the agent")
    refused(folder, resume(me, "last", "--prompt", "go"), "start a new run")
    path.write_bytes(whole.replace(b'"status":"budget"', b'"status":"bogus"', 1))
    refused(folder, resume(me, "last"), "'bogus' is not a status of a run", "journal.jsonl:")
    path.write_bytes(_with_workspace(whole, "a\0b"))
    refused(folder, resume(me, "last"), "workspace.path: a path contains a NUL byte")
    path.unlink()
    refused(folder, resume(me, folder.name), "is not a run")


def _with_workspace(journal: bytes, workspace: str) -> bytes:
    """The same, with another workspace in every event that names one."""
    events = [json.loads(line) for line in journal.splitlines()]
    for event in events:
        if settings := event.get("settings"):
            settings["task"]["workspace"]["path"] = workspace
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nobody"], ["there is no run nobody"]),
        (["last", "--set", "prompt=x"], ["prompt cannot be changed", "budgets"]),
        (["last", "--set", "budgets.turns=no"], ["--set budgets.turns", "budgets.turns"]),
        (["last", "--set", "budgets"], ["budgets"]),
        (["last", "--timeout", "soon"], ["--timeout"]),
        (["last", "--model", "scripted:nowhere.yaml"], ["there is no file"]),
        (["last", "--model", "scripted:"], ["names nothing", "scripted:steps.yaml"]),
        (["last", "-o", "/nowhere/x"], ["-o"]),
        ([], ["RUN"]),
    ],
)
def test_wrong_usage_is_reported_and_changes_nothing(
    me: Person, argv: list[str], words: list[str]
) -> None:
    folder = ran(me, "--set", "budgets.turns=1")
    before = (folder / "journal.jsonl").read_bytes()
    refused(folder, resume(me, *argv), *words)
    assert (folder / "journal.jsonl").read_bytes() == before


def test_a_removed_steps_file_is_reported(me: Person) -> None:
    folder = ran(me, "--set", "budgets.turns=1")
    (me.folder / "task" / "steps.yaml").unlink()
    refused(folder, resume(me, "last"), "there is no file", "--model")


def test_a_command_run_by_exec_is_not_gone_on_with(me: Person) -> None:
    me.run([AGENT, "exec", "--out", str(me.folder / "runs"), "--", "false"])
    (folder,) = (me.folder / "runs").iterdir()
    refused(folder, resume(me, "last"), "the model 'exec' cannot be made from its name", "--model")


def test_all_that_can_be_set_is_set(me: Person) -> None:
    folder = ran(me, "--set", "budgets.turns=1")
    changes = ["budgets.turns=7", "parallel=2", "sandbox.limits.timeout=9s", "verify=['true']"]
    changes += ["tools.0.timeout=5s", "interrupt.term=0.5"]
    argv = [word for change in changes for word in ("--set", change)]
    done = resume(me, "last", *argv, "--grace", "0.25", "--timeout", "40s")
    assert done.returncode == 0, done.stderr
    journal = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    first, second = (e["settings"]["task"] for e in journal if e["event"] == "segment")
    assert (second["budgets"]["turns"], second["budgets"]["time"]) == (7, 40.0)
    assert (second["parallel"], second["verify"]) == (2, ["true"])
    assert second["interrupt"] == {"grace": 0.25, "term": 0.5}
    assert second["tools"] == [{"tool": "shell", "timeout": 5.0}]
    limits = second["sandbox"].pop("limits")
    assert limits.pop("timeout") == 9.0
    assert limits.items() <= first["sandbox"].pop("limits").items()
    assert second["sandbox"] == first["sandbox"]
    assert second["workspace"] == first["workspace"]


@pytest.mark.parametrize("moment", [0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5])
def test_a_signal_at_any_moment_of_resuming_leaves_nothing(me: Person, moment: float) -> None:
    """Seconds after the exec. They pick an instant; nothing is synchronised by them."""
    mark = observer.new_mark()
    turns = [TURNS[0], {"calls": [{"shell": {"command": f"sleep 300.{mark}"}}]}, {"final": "no"}]
    folder = ran(me, "--set", "budgets.turns=1", turns=turns)
    argv = [AGENT, "resume", str(folder), "--set", "budgets.turns=9"]
    with me.start(argv) as agent:
        with contextlib.suppress(subprocess.TimeoutExpired):
            agent.wait(moment)
        with observer.watching(observer.descendants(agent.pid)) as handles:
            agent.terminate()
            _, err = agent.communicate(timeout=30)
            assert observer.wait_gone(handles, 10)[1] == []
    # Before Python has come to our first line, SIGTERM does what it does to any program.
    assert agent.returncode in (143, -15), err
    assert "Traceback" not in err
    assert observer.marked(mark) == []
    result = json.loads((folder / "result.json").read_text())
    begun = (folder / "journal.jsonl").read_text().count('"event":"segment"') == 2
    assert (result["status"], result["segment"]) == (("interrupted", 2) if begun else ("budget", 1))
    # In each case it can be resumed.
    me.write(me.folder / "task" / "steps.yaml", json.dumps([*turns[:1], *([{"final": "On."}] * 2)]))
    assert resume(me, "last").stdout == "On.\n"
