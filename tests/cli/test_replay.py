"""`run --model replay:RUN`, as a stranger would use it, and misuse it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import identity
import journals
import pytest
import struck
from identity import BIN, Person

PERSONS = ["user"]  # what it shows does not depend on who runs the command

AGENT = str(BIN / "sandbox-agent")
TURNS: list[dict[str, Any]] = [
    {"calls": [{"shell": {"command": "echo x >> one; cat one"}}, {"shell": {"command": "exit 3"}}]},
    {"say": "So far.", "calls": [{"shell": {"command": "wc -l < one"}}]},
    {"final": "Both."},
]
VERIFY = ["test $(wc -l < one) = 1"]


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


def runs(person: Person) -> list[Path]:
    """The run folders, oldest first."""
    return sorted(path for path in (person.folder / "runs").iterdir() if path.is_dir())


def ran(
    person: Person, *more: str, turns: list[dict[str, Any]] = TURNS, **task: Any
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run that has ended, and what was seen of it. Its task file is gone."""
    file = struck.write_task(person, turns, **task)
    done = person.run([AGENT, "run", str(file), *more])
    shutil.rmtree(file.parent)
    return runs(person)[-1], done


def replay(
    person: Person, *argv: str, run: str = "last", **options: Any
) -> subprocess.CompletedProcess[str]:
    out = ["--out", str(person.folder / "runs")]
    return person.run([AGENT, "run", "--model", f"replay:{run}", *out, *argv], **options)


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert "hint: " in done.stderr
    for word in words:
        assert word in done.stderr


# --- a run is replayed ------------------------------------------------------------------------


def test_a_run_is_replayed_as_it_was_without_its_task(person: Person) -> None:
    options = {"verify": VERIFY, "parallel": 3, "budgets": {"turns": 9, "time": "50s"}}
    folder, first = ran(person, **options)
    assert (first.returncode, first.stdout) == (0, "Both.\n"), first.stderr
    (person.work / "one").unlink()
    person.write(person.work / "task.yaml", "not the task that is meant")
    again = replay(person, "--check")
    assert (again.returncode, again.stdout) == (0, "Both.\n"), again.stderr
    assert "results are as recorded" in again.stderr
    (person.work / "one").unlink()
    assert replay(person).returncode == 0  # of the replay
    one, two, three = runs(person)
    assert one == folder
    assert journals.differences(one, three) == []
    result = json.loads((two / "result.json").read_text())
    assert (result["task"], result["model"]) == ("struck", f"replay:{folder.name}")


@pytest.mark.parametrize("how", ["id", "prefix", "path", "journal", "relative"])
def test_a_run_is_named_in_any_way(me: Person, how: str) -> None:
    folder, _ = ran(me)
    (me.work / "one").unlink()
    names = {
        "id": folder.name,
        "prefix": folder.name[:12],
        "path": str(folder),
        "journal": str(folder / "journal.jsonl"),
        "relative": f"../runs/{folder.name}",
    }
    done = replay(me, "--check", run=names[how])
    assert (done.returncode, done.stdout) == (0, "Both.\n"), done.stderr


def test_flags_and_settings_win_over_the_record(me: Person) -> None:
    folder, _ = ran(me)
    for name in ("other", "elsewhere"):
        (me.folder / name).mkdir()
    flags = [
        "--workspace",
        str(me.folder / "other"),
        "--grace",
        "0.25",
        "--timeout",
        "40s",
        "--out",
    ]
    flags += ["../elsewhere", "--set", "verify=['false']", "--set", "parallel=1"]
    done = me.run([AGENT, "run", "--model", f"replay:{folder}", *flags])
    assert done.returncode == 1, done.stderr
    assert "verify failed: false" in done.stderr
    (again,) = (me.folder / "elsewhere").iterdir()
    (segment,) = (e for e in journals.read(again) if e["event"] == "segment")
    task = segment["settings"]["task"]
    assert task["workspace"]["path"] == str(me.folder / "other")
    assert task["interrupt"] == {"grace": 0.25, "term": struck.TERM}
    assert (task["budgets"]["time"], task["parallel"], task["verify"]) == (40.0, 1, ["false"])
    assert (me.folder / "other" / "one").exists()


def test_a_task_of_ones_own_replays_too(me: Person) -> None:
    folder, _ = ran(me)
    (me.work / "one").unlink()
    shutil.copytree(folder, me.folder / "record")
    task = "version: 1\nprompt: Other words.\ntools: [shell]\nworkspace: {path: work}\n"
    me.write(me.folder / "t.yaml", task + "model: {name: 'replay:./record', check: true}\n")
    done = me.run([AGENT, "run", "../t.yaml", "--out", "../runs"])
    assert (done.returncode, done.stdout) == (0, "Both.\n"), done.stderr
    assert "results are as recorded" in done.stderr
    prompts = [e["text"] for e in journals.read(runs(me)[-1]) if e["event"] == "user_message"]
    assert prompts == ["Other words."]
    # Without --prompt it uses the recorded one.
    me.write(me.folder / "t.yaml", task.replace("prompt: Other words.\n", ""))
    done = me.run([AGENT, "run", "../t.yaml", "--out", "../runs", "--model", "replay:last"])
    assert done.returncode == 0, done.stderr
    # And with one on the command line there need not be a task.
    more = {"SANDBOX_AGENT_MODEL": "replay:../record"}
    done = me.run([AGENT, "run", "--prompt", "Go.", "--out", "../runs"], env=more)
    assert (done.returncode, done.stdout) == (0, "Both.\n"), done.stderr


def test_what_the_user_said_later_is_said_again_in_its_place(me: Person) -> None:
    turns = [{"final": "First."}, TURNS[0], {"final": "Second."}]
    file = struck.write_task(me, turns)
    me.run([AGENT, "run", str(file)])
    out = ["--out", str(me.folder / "runs")]
    done = me.run([AGENT, "resume", "last", *out, "--prompt", "And more."])
    assert done.stdout == "Second.\n", done.stderr
    (me.work / "one").unlink()
    # A spent budget in between changes nothing.
    done = replay(me, "--check", "--set", "budgets.turns=1")
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    done = me.run([AGENT, "resume", "last", *out, "--set", "budgets.turns=9"])
    assert (done.returncode, done.stdout) == (0, "Second.\n"), done.stderr
    assert "results are as recorded" in done.stderr
    said = [e["text"] for e in journals.read(runs(me)[-1]) if e["event"] == "user_message"]
    assert said == ["Start everything that gets away.", "And more."]
    (me.work / "one").unlink()
    # And so is that replay, which has two segments.
    done = replay(me, "--check")
    assert (done.returncode, done.stdout) == (0, "Second.\n"), done.stderr


def test_a_run_resumed_after_spent_budgets_is_replayed_with_them(me: Person) -> None:
    """Without a word of budgets: those of the record are meant."""
    assert me.run([AGENT, "run", str(struck.write_task(me, TURNS, budgets={"turns": 1}))])
    out = ["--out", str(me.folder / "runs")]
    [first] = runs(me)
    assert me.run([AGENT, "resume", "last", *out]).returncode == 3
    assert me.run([AGENT, "resume", "last", *out]).stdout == "Both.\n"
    for run in (first.name, "last"):  # of the run, and of its replay
        (me.work / "one").unlink()
        done = replay(me, "--check", run=run)
        assert (done.returncode, done.stdout) == (0, "Both.\n"), done.stderr
        assert "results are as recorded" in done.stderr
        result = json.loads((runs(me)[-1] / "result.json").read_text())
        assert (result["usage"]["requests"], result["usage"]["calls"]) == (3, 3)
    # A budget that is given counts for all of it.
    (me.work / "one").unlink()
    done = replay(me, "--check", "--set", "budgets.turns=2", run=first.name)
    assert done.returncode == 3, done.stderr
    assert "the budget of 2 turns is spent" in done.stderr


def test_a_replay_with_another_models_end(me: Person) -> None:
    """Up to where it was stopped, and from there with another model."""
    ran(me, "--set", "budgets.turns=1")
    for argv, code in ([], 3), (["--set", "budgets.turns=null"], 1):
        (me.work / "one").unlink()
        assert replay(me, *argv, run=runs(me)[0].name).returncode == code
    steps = me.write(me.folder / "s.yaml", json.dumps([{"say": ""}, {"final": "By hand."}]))
    out = ["--out", str(me.folder / "runs")]
    done = me.run([AGENT, "resume", "last", *out, "--model", f"scripted:{steps}"])
    assert (done.returncode, done.stdout) == (0, "By hand.\n"), done.stderr
    # `resume` may take replay:RUN too; RUN is searched where the resumed run is.
    record = runs(me)[0].name
    ran(me, "--set", "budgets.turns=1")
    done = me.run([AGENT, "resume", "last", *out, "--model", f"replay:{record}"])
    assert f"replay:{record}: the recorded run ends here, after 1 turn: " in done.stderr


def test_tools_handed_over_as_objects_are_found_again(me: Person) -> None:
    script = """
from sandbox_agent import Conversation, ModelCall, ModelTurn, ScriptedModel, tool
from sandbox_agent.models.scripted import Step

@tool
def twice(word: str) -> str:
    return word * 2

if __name__ == "__main__":
    turns = ModelTurn("", (ModelCall("twice", {"word": "ab"}),)), ModelTurn("Yes.", final=True)
    model = ScriptedModel([Step(turn) for turn in turns])
    with Conversation(model=model, tools=[twice], output_dir="../runs", name="a b/c") as conv:
        conv.run()
"""
    me.write(me.work / "script.py", script)
    assert me.run(["python", "script.py"]).returncode == 0
    done = replay(me, "--check", "--prompt", "Go.", "--set", "tools=[shell]")
    assert done.returncode == 1
    assert "diverges at turn 1, call_1_1, twice" in done.stderr
    shutil.rmtree(runs(me)[-1])
    done = replay(me, "--check", "--set", "prompt=Go.")  # nobody told the recorded run anything
    assert (done.returncode, done.stdout) == (0, "Yes.\n"), done.stderr
    assert journals.read(runs(me)[-1])[-3]["content"] == "abab"


def test_a_command_run_by_exec_is_replayed(me: Person) -> None:
    me.run([AGENT, "exec", "--out", str(me.folder / "runs"), "--", "sh", "-c", "echo hi; exit 0"])
    done = replay(me, "--check")
    assert done.returncode == 0, done.stderr
    assert [e["content"] for e in journals.read(runs(me)[-1]) if e["event"] == "ended"] == ["hi\n"]


# --- as far as it goes ------------------------------------------------------------------------


def test_a_run_that_was_stopped_is_replayed_as_far_as_it_went(me: Person) -> None:
    with struck.task_at_work(me) as run:
        assert run.strike(2).code == 130
    (me.work / "pids.fifo").unlink()
    argv = [AGENT, "run", "--model", "replay:last", "--check", "--out", str(me.folder / "runs")]
    with struck.at_work(me, argv, run.marks) as again:
        after = again.strike(2)
    assert after.code == 130, after.stderr
    assert (after.left, after.lasting) == ([], [])
    first, second = (json.loads((folder / "result.json").read_text()) for folder in runs(me))
    assert (first["status"], second["status"]) == ("interrupted", "interrupted")
    assert second["model"] == f"replay:{first['run']}"
    # Where nothing hangs any more it comes to the end of the record, and says which.
    me.write(me.work / "pids.fifo.new", "")
    (me.work / "pids.fifo").unlink()
    (me.work / "pids.fifo.new").rename(me.work / "pids.fifo")
    done = replay(me, "--check", "--set", "sandbox.limits.timeout=200ms", run=first["run"])
    assert done.returncode == 1, done.stderr
    assert "the recorded run ends here, after 1 turn: it was interrupted" in done.stderr
    assert "1 call was stopped and not compared" in done.stderr


def test_a_killed_agents_run_is_replayed_while_its_journal_lies_torn(me: Person) -> None:
    folder, _ = ran(me)
    (me.work / "one").unlink()
    path = folder / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b'{"event":"model_turn"') + 30])
    torn = path.read_bytes()
    path.chmod(0o400)
    done = replay(me, "--check")
    assert done.returncode == 1, done.stderr
    assert (
        "after 2 turns: it has no end: it is still running, or its agent was killed" in done.stderr
    )
    assert path.read_bytes() == torn
    assert sorted(entry.name for entry in folder.iterdir()) == ["journal.jsonl", "result.json"]


# --- what differs is named --------------------------------------------------------------------


def test_a_divergence_is_named_and_fails_the_run(person: Person) -> None:
    folder, _ = ran(person, verify=VERIFY)
    done = replay(person, "--check")  # `one` is there already
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("failed: "))
    assert line == (
        f"failed: replay:{folder.name} diverges at turn 1, call_1_1, "
        'shell {"command":"echo x >> one; cat one"}: '
        "recorded ok, exit status 0: 'x'; now ok, exit status 0: 'x\\nx'"
    )
    result = json.loads((runs(person)[-1] / "result.json").read_text())
    assert (result["status"], result["exit_code"]) == ("failed", 1)
    assert result["reason"] in line
    # Without --check it continues; `verify` runs in any case.
    done = replay(person, run=folder.name)
    assert done.returncode == 1
    assert "verify failed" in done.stderr


def test_a_verdict_that_differs_is_named(me: Person) -> None:
    turns = [{"final": "Done."}]
    ran(me, turns=turns, verify=["test ! -e there || printf '\\033]0;x\\007'; test ! -e there"])
    (me.work / "there").touch()
    done = replay(me, "--check")
    assert done.returncode == 1
    assert "diverges at turn 1, verify " in done.stderr
    assert "recorded passed" in done.stderr
    assert "; now failed, error, exit status 1: '\\x1b]0;x\\x07" in done.stderr
    assert "\x1b" not in done.stderr


# --- what cannot be ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "argv", "words"),
    [
        ("nobody", [], ["there is no run nobody in"]),
        ("", [], ["no run was named"]),
        ("./nowhere", [], ["is not a run"]),
        ("/dev/null", [], ["/dev/null"]),
        ("2", [], ["2 may be any of", "write more of the id"]),
        ("last", ["--set", "budgets.turns=no"], ["--set budgets.turns"]),
        ("last", ["--workspace", "nowhere"], ["workspace.path", "there is no folder"]),
        ("last", ["--var", "x"], ["--var x"]),
        ("last", ["--model", "scripted:nowhere.yaml"], ["--model", "is given twice"]),
        ("last", ["nowhere.yaml"], ["nowhere.yaml"]),
    ],
)
def test_wrong_usage_is_reported_and_nothing_is_written(
    me: Person, run: str, argv: list[str], words: list[str]
) -> None:
    folder, _ = ran(me)
    shutil.copytree(folder, folder.with_name("20990101T000000000-aaaaaa"))
    before = runs(me)
    refused(replay(me, *argv, run=run), *words)
    assert runs(me) == before


def test_a_broken_journal_is_reported(me: Person) -> None:
    folder, _ = ran(me)
    path = folder / "journal.jsonl"
    whole = path.read_bytes()
    number = whole[: whole.index(b'{"event":"model_turn"')].count(b"\n") + 1
    path.write_bytes(whole.replace(b'{"event":"model_turn"', b'{"event":"model_t', 1))
    for argv in ([], ["--prompt", "Go."]):
        done = replay(me, *argv)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"journal.jsonl:{number}: this line is not an event" in done.stderr
    path.write_bytes(whole.replace(b'"version":2', b'"version":1', 1))
    assert "journal.jsonl:1: the journal has version 1;" in replay(me).stderr
    path.write_bytes(b"")
    refused(replay(me), "ends before it says what the run was made with")
    shutil.rmtree(me.work)
    me.work.mkdir()
    me.own(me.work)
    path.write_bytes(whole)
    assert replay(me, "--check").returncode == 0
    assert runs(me)[0] == folder


def test_a_recorded_run_is_validated_and_nothing_is_started(me: Person) -> None:
    folder, _ = ran(me)
    argv = ["--model", "replay:last", "--check", "--out", str(me.folder / "runs")]
    done = me.run([AGENT, "validate", *argv])
    assert (done.returncode, done.stdout) == (0, f"{folder}/journal.jsonl: valid\n"), done.stderr
    me.work.rename(me.folder / "moved")
    (me.folder / "elsewhere").mkdir()
    done = me.run([AGENT, "validate", *argv], cwd=me.folder / "elsewhere")
    refused(done, f"{folder}/journal.jsonl: workspace.path: there is no folder {me.work}")
    assert runs(me) == [folder]
    (me.folder / "moved").rename(me.work)
