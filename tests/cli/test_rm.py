"""`sandbox-agent rm` and `prune`: only runs that are over are removed, and nothing beside them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import identity
import made_runs
import pytest
import struck
from identity import BIN, Person
from made_runs import Clock

AGENT = str(BIN / "sandbox-agent")


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


def agent(me: Person, verb: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return me.run([AGENT, verb, "--out", str(me.folder / "runs"), *argv])


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    for word in (*words, "hint: "):
        assert word in done.stderr


def test_a_run_is_removed_with_all_that_belongs_to_it(person: Person) -> None:
    turns = [{"calls": [{"shell": {"command": "seq 100000"}}]}, {"final": "Done."}]
    task = struck.write_task(person, turns)
    assert person.run([AGENT, "run", str(task), "--name", "mine"]).returncode == 0
    (folder,) = (person.folder / "runs").iterdir()
    assert len(list((folder / "output").iterdir())) == 1
    done = agent(person, "rm", "mine")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"removed {folder.name} (mine): 3 files, ")
    assert list((person.folder / "runs").iterdir()) == []
    refused(agent(person, "rm", "mine"), 2, "there is no run mine")


def test_a_run_that_is_going_is_neither_removed_nor_pruned(person: Person) -> None:
    with struck.task_at_work(person) as run:
        refused(agent(person, "rm", "last"), 2, "is going, or a program still has it open")
        done = agent(person, "prune", "--keep", "0s")
        assert (done.returncode, done.stdout) == (0, "")
        assert run.run_folder.is_dir()
        run.kill()
    done = agent(person, "rm", "last")  # a lost one is removed
    assert done.returncode == 0, done.stderr


def test_of_several_runs_none_is_removed_if_one_is_not_there(me: Person) -> None:
    base = me.folder / "runs"
    one, two = (base / f"20261128T10000000{n}-abcdef" for n in (1, 2))
    for folder in (one, two):
        made_runs.write(folder, made_runs.failed_run())
    refused(agent(me, "rm", one.name, "nothing"), 2, "there is no run nothing")
    refused(agent(me, "rm", "fix"), 2, f"fix may be any of {one.name}, {two.name}", "give an id")
    with made_runs.held(one):
        done = agent(me, "rm", one.name, two.name, two.name)
    assert done.returncode == 2 and "is going" in done.stderr
    assert done.stdout == f"removed {two.name} (fix): 1 file, 1.8 kB\n" or two.name in done.stdout
    assert sorted(path.name for path in base.iterdir()) == [one.name]


def test_links_are_removed_and_never_followed(me: Person) -> None:
    base = me.folder / "runs"
    outside = me.folder / "outside"
    outside.mkdir()
    (outside / "kept.txt").write_text("kept")
    folder = made_runs.write(base / made_runs.ID, made_runs.failed_run())
    (folder / "output").symlink_to(outside)
    (folder / "result.json").symlink_to(outside / "kept.txt")
    assert agent(me, "rm", made_runs.ID).returncode == 0
    assert (outside / "kept.txt").read_text() == "kept" and not folder.exists()
    # A link in place of the whole folder, and one among the outputs.
    real = made_runs.write(me.folder / "real", made_runs.failed_run())
    (base / made_runs.ID).symlink_to(real)
    refused(agent(me, "rm", made_runs.ID), 2, "is a link")
    assert agent(me, "prune", "--keep", "0s").stdout == ""
    (real / "output").mkdir()
    (real / "output" / "a.txt").symlink_to(outside / "kept.txt")
    assert agent(me, "rm", str(real)).returncode == 0
    assert (outside / "kept.txt").exists() and not real.exists()


def test_what_sandbox_agent_did_not_write_stays(me: Person) -> None:
    folder = made_runs.write(me.folder / "runs" / made_runs.ID, made_runs.failed_run())
    (folder / "notes\x1b[2J").mkdir()
    refused(agent(me, "rm", "last"), 2, "did not write: notes\\x1b[2J")
    (folder / "notes\x1b[2J").rmdir()
    (folder / "output" / "deep").mkdir(parents=True)
    refused(agent(me, "rm", "last"), 2, "did not write: output/deep")
    assert (folder / "journal.jsonl").exists()
    (folder / "output" / "deep").rmdir()
    done = me.run([AGENT, "rm", "."], cwd=folder)
    assert done.returncode == 2
    done = me.run([AGENT, "rm", "./"], cwd=folder)
    refused(done, 2, "the folder that you are in")


def test_half_written_and_odd_runs_are_removed_by_their_id(me: Person) -> None:
    base = me.folder / "runs"
    (base / made_runs.ID).mkdir(parents=True)
    assert agent(me, "rm", made_runs.ID).returncode == 0
    for tail in (b"", b'{"event":"journal","version":99,"run":"x"}\n', b"\xff"):
        made_runs.write(base / made_runs.ID, [], tail)
        assert agent(me, "rm", "abcdef").returncode == 0
    (base / made_runs.ID).mkdir()
    (base / made_runs.ID / "journal.jsonl").mkdir()
    refused(agent(me, "rm", made_runs.ID), 2, "no ordinary file")
    assert not list(base.glob("*/journal.jsonl/*"))


def test_a_run_of_another_user_is_not_removed(person: Person) -> None:
    base = person.folder / "runs"
    folder = made_runs.write(base / made_runs.ID, made_runs.failed_run())
    folder.chmod(0o700)  # root's, who runs the tests
    (base / "20261128T100000001-abcdef").mkdir(mode=0o700)
    person.own(base)
    if person.uid == os.geteuid():
        assert agent(person, "rm", made_runs.ID).returncode == 0
        return
    refused(agent(person, "rm", made_runs.ID), 2, "not yours to remove")
    done = agent(person, "prune", "--keep", "0s")
    assert (done.returncode, done.stdout) == (0, "")
    assert f"kept {made_runs.ID}: Permission denied" in done.stderr
    assert folder.exists()


def days_ago(days: float) -> Clock:
    at = datetime.now(UTC) - timedelta(days=days)
    return Clock(at.isoformat(timespec="milliseconds").replace("+00:00", "Z"))


def test_prune_keeps_what_is_young_and_says_what_it_removed(me: Person) -> None:
    base = me.folder / "runs"
    for number, days in enumerate((40, 31, 29)):
        made_runs.write(base / f"run-{number}", made_runs.failed_run(days_ago(days)))
    lost = made_runs.write(base / "lost", made_runs.failed_run(days_ago(50))[:-1])
    long_ago = (datetime.now(UTC) - timedelta(days=50)).timestamp()
    os.utime(lost / "journal.jsonl", (long_ago, long_ago))
    made_runs.write(base / "going", made_runs.failed_run(days_ago(90))[:-1])
    newer = made_runs.write(base / "newer", [], b'{"event":"journal","version":99,"run":"x"}\n')
    dry = agent(me, "prune", "--keep", "30d", "--dry-run")
    assert dry.stdout.count("would remove") == 3 and "3 runs to be removed" in dry.stderr
    assert len(list(base.iterdir())) == 6
    with made_runs.held(base / "going"):
        done = agent(me, "prune", "--keep", "30d")
    assert done.returncode == 0, done.stderr
    removed = {line.split()[1] for line in done.stdout.splitlines()}
    assert removed == {"run-0", "run-1", "lost"}
    assert "3 runs removed, 3 files, " in done.stderr
    assert "kept newer: " in done.stderr and newer.exists()
    assert {path.name for path in base.iterdir()} == {"run-2", "going", "newer"}


def test_prune_keeps_what_is_open_or_has_other_files_and_goes_on(me: Person) -> None:
    base = me.folder / "runs"
    for number in range(3):
        made_runs.write(base / f"run-{number}", made_runs.failed_run(days_ago(40)))
    (base / "run-0" / "notes.txt").touch()
    with made_runs.held(base / "run-1"):  # a program, between two runs
        done = agent(me, "prune", "--keep", "30d")
    assert done.returncode == 0
    assert "kept run-0: " in done.stderr and "notes.txt" in done.stderr
    assert "kept run-1: the run run-1 is going, or a program still has it open" in done.stderr
    assert {path.name for path in base.iterdir()} == {"run-0", "run-1"}


@pytest.mark.parametrize(
    ("keep", "named"),
    [("30", "30 has no unit"), ("-1d", "--keep"), ("soon", "--keep"), ("1.5", "has no unit")],
)
def test_a_time_that_says_something_else_is_refused(me: Person, keep: str, named: str) -> None:
    folder = made_runs.write(me.folder / "runs" / made_runs.ID, made_runs.failed_run())
    refused(agent(me, "prune", f"--keep={keep}"), 2, named)
    assert agent(me, "prune").returncode == 2
    assert folder.is_dir() and Path(folder / "journal.jsonl").exists()
