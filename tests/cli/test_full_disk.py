"""A disk that fills up, or a run folder that goes away, while a run is going."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import observer
import pytest
import struck
from faults import Faults, Operation
from identity import BIN, Person
from sandbox_agent.journal.events import SegmentEnded
from sandbox_agent.journal.file import read_journal

PERSONS = ["user"]  # what it shows does not depend on who runs the command

AGENT = str(BIN / "sandbox-agent")
FINAL = {"final": "Done."}


def shell(*commands: str, **more: Any) -> dict[str, Any]:
    return {"calls": [{"shell": {"command": command, **more}} for command in commands]}


@pytest.fixture
def disk(person: Person) -> Iterator[Path]:
    """A small file system of the person's, with the workspace on it."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a tmpfs")
    folder = person.folder / "disk"
    folder.mkdir()
    options = f"size=8m,nr_inodes=200,uid={person.uid},gid={person.uid},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "test", folder], check=True)
    try:
        work = folder / "work"
        work.mkdir()
        person.own(work)
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def run_on(person: Person, disk: Path, turns: list[dict[str, Any]], **more: Any) -> tuple[int, str]:
    output, workspace = {"dir": str(disk / "runs")}, {"path": str(disk / "work")}
    task = struck.write_task(person, turns, output=output, workspace=workspace, **more)
    done = person.run([AGENT, "run", str(task)], timeout=120)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def ends(runs: Path) -> tuple[tuple[str, int], tuple[str, int]]:
    """How the run ended: as the journal says, and as the record says."""
    (folder,) = runs.iterdir()
    last = read_journal(folder / "journal.jsonl")[-1]
    assert isinstance(last, SegmentEnded)
    record = json.loads((folder / "result.json").read_text())
    return (last.status, last.exit_code), (record["status"], record["exit_code"])


def resume(person: Person, runs: Path, *more: str) -> subprocess.CompletedProcess[str]:
    done = person.run([AGENT, "resume", "last", "--out", str(runs), *more], timeout=120)
    assert "Traceback" not in done.stderr
    return done


def test_a_tool_that_fills_the_disk_takes_no_end_from_the_run(person: Person, disk: Path) -> None:
    fill = "head -c 100M /dev/zero > fill; echo x > y; echo full"
    code, told = run_on(person, disk, [shell(fill), shell("seq 6000"), FINAL])
    assert code == 0, told
    assert ends(disk / "runs") == (("done", 0), ("done", 0))
    (folder,) = (disk / "runs").iterdir()
    assert sorted(os.listdir(folder)) == ["journal.jsonl", "result.json"]


def test_a_run_without_more_room_ends_while_its_end_can_be_written(
    person: Person, disk: Path
) -> None:
    turns = [shell("head -c 100M /dev/zero > fill"), *[shell("seq 5000")] * 24, FINAL]
    code, told = run_on(person, disk, turns, budgets={"repeats": None})
    assert code == 5, told
    assert "the journal cannot be written: No space left on device; make room on that disk" in told
    assert ends(disk / "runs") == (("error", 5), ("error", 5))
    # The disk is still full: the run is refused, and no call is made.
    again = resume(person, disk / "runs")
    assert again.returncode == 5, again.stderr
    assert "No space left on device" in again.stderr
    for path in (disk / "work").iterdir():
        path.unlink()
    again = resume(person, disk / "runs")
    assert again.returncode == 0, again.stderr
    assert ends(disk / "runs") == (("done", 0), ("done", 0))


def test_a_tool_that_takes_every_inode_takes_no_end_from_the_run(
    person: Person, disk: Path
) -> None:
    many = "for i in $(seq 300); do : > f$i; done; echo none left"
    code, told = run_on(person, disk, [shell(many), FINAL])
    assert code == 0, told
    assert ends(disk / "runs") == (("done", 0), ("done", 0))


def test_output_that_cannot_be_kept_ends_the_run_and_leaves_no_part(
    person: Person, disk: Path
) -> None:
    fill = "head -c 100M /dev/zero > fill; seq 20000"
    code, told = run_on(person, disk, [shell(fill), FINAL])
    assert code == 5, told
    assert "the output of call_1_1 cannot be written: No space left on device" in told
    assert ends(disk / "runs") == (("error", 5), ("error", 5))
    (folder,) = (disk / "runs").iterdir()
    assert not list(folder.glob("output/*"))


def test_a_run_does_not_begin_on_a_full_disk(person: Person, disk: Path) -> None:
    with open(disk / "work" / "fill", "wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"x" * 4096)
    code, told = run_on(person, disk, [shell("touch ran"), FINAL])
    assert code == 5, told
    assert "No space left on device" in told
    assert not (disk / "work" / "ran").exists()


def test_a_limit_on_the_size_of_files_is_a_disk_that_is_full(person: Person) -> None:
    task = struck.write_task(person, [shell("seq 4000"), shell("touch two"), FINAL])
    command = f"ulimit -f 16; exec {shlex.join([AGENT, 'run', str(task)])}"
    done = person.run(["bash", "-c", command])
    assert done.returncode == 5, done.stderr
    assert "the journal cannot be written: File too large" in done.stderr
    runs = person.folder / "runs"
    (folder,) = runs.iterdir()
    record = json.loads((folder / "result.json").read_text())
    assert (record["status"], record["exit_code"]) == ("error", 5)
    again = resume(person, runs)
    assert again.returncode == 0, again.stderr
    assert ends(runs) == (("done", 0), ("done", 0))


# --- the folder of the run ------------------------------------------------------------------


def while_it_runs(person: Person, strike: Any) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Runs a task whose call waits. strike: is called with the run's folder meanwhile."""
    wait = "touch up; until test -e go; do sleep 0.05; done"
    task = struck.write_task(person, [shell(wait), FINAL])
    agent = person.start([AGENT, "run", str(task)])
    try:
        observer.eventually(lambda: (person.work / "up").exists(), 60)
        (folder,) = (person.folder / "runs").iterdir()
        strike(folder)
        (person.work / "go").touch()
        out, err = agent.communicate(timeout=60)
    finally:
        with agent:
            agent.kill()
    assert "Traceback" not in err
    return subprocess.CompletedProcess([], agent.returncode, out, err), folder


def test_a_run_folder_that_is_renamed_meanwhile_is_no_success(person: Person) -> None:
    runs = person.folder / "runs"
    done, _ = while_it_runs(person, lambda folder: folder.rename(runs / "elsewhere"))
    assert done.returncode == 5, done.stderr
    assert "was removed, renamed or replaced while the run was going" in done.stderr
    assert ends(runs) == (("error", 5), ("error", 5))
    again = person.run([AGENT, "resume", str(runs / "elsewhere")])
    assert again.returncode == 0, again.stderr
    assert ends(runs) == (("done", 0), ("done", 0))


def test_a_run_folder_that_is_removed_meanwhile_is_no_success(person: Person) -> None:
    done, folder = while_it_runs(person, shutil.rmtree)
    assert done.returncode == 5, done.stderr
    assert "was removed, renamed or replaced while the run was going" in done.stderr
    assert "record:" not in done.stderr
    assert not folder.exists()


def test_a_journal_that_another_program_writes_to_is_no_success(person: Person) -> None:
    def scribble(folder: Path) -> None:
        with open(folder / "journal.jsonl", "a") as file:
            file.write("scribbled\n")

    done, folder = while_it_runs(person, scribble)
    assert done.returncode == 5, done.stderr
    assert "another program changed its length" in done.stderr
    again = resume(person, folder.parent)
    assert again.returncode == 2
    assert "this line is not an event" in again.stderr


# --- the record follows from the journal ----------------------------------------------------


def test_resume_of_a_run_that_is_done_completes_its_record(person: Person) -> None:
    task = struck.write_task(person, [shell("echo hi"), FINAL], verify=["true"])
    assert person.run([AGENT, "run", str(task)]).returncode == 0
    runs = person.folder / "runs"
    (folder,) = runs.iterdir()
    record = folder / "result.json"
    before = json.loads(record.read_text())
    unfinished = {**before, "status": "running", "exit_code": None, "message": None}
    for spoilt in (json.dumps(unfinished), "{", None):
        record.unlink()
        if spoilt is not None:
            person.write(record, spoilt)
        done = resume(person, runs)
        assert done.returncode == 2
        assert "is done (its result.json did not say so, and does now)" in done.stderr
        after = json.loads(record.read_text())
        assert {**after, "times": None} == {**before, "times": None}
    assert "did not say so" not in resume(person, runs).stderr


def test_cancel_believes_the_journal(person: Person) -> None:
    task = struck.write_task(person, [FINAL])
    assert person.run([AGENT, "run", str(task)]).returncode == 0
    runs = person.folder / "runs"
    (folder,) = runs.iterdir()
    record = json.loads((folder / "result.json").read_text())
    for status in ("running", "failed"):
        spoilt = json.dumps({**record, "status": status, "reason": "not so"})
        (folder / "result.json").write_text(spoilt)
        done = person.run([AGENT, "cancel", "last", "--out", str(runs)])
        assert (done.returncode, "is over: done" in done.stderr) == (1, True), done.stderr


# --- exec, and reads ------------------------------------------------------------------------


def test_a_command_that_cannot_be_recorded_ends_with_125(person: Person) -> None:
    runs = person.folder / "runs"
    argv = [AGENT, "exec", "--workspace", str(person.work), "--out", str(runs), "--"]

    def fails_from_the_record_on(operation: Operation) -> int | None:
        records = sum(one.name == "pwrite64" for one in faults.seen)
        return errno.EIO if records > 1 else None  # the first says that the command runs

    for command, code in (("echo hi", 125), ("echo hi; exit 3", 3)):
        with Faults(runs, fails_from_the_record_on) as faults:
            done = faults.run(person, [*argv, "sh", "-c", command])
        assert faults.struck
        assert (done.returncode, done.stdout) == (code, "hi\n"), done.stderr
        assert "cannot be written: Input/output error" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["resume", "cancel"])
def test_a_journal_that_cannot_be_read_is_the_hosts_fault(person: Person, verb: str) -> None:
    task = struck.write_task(person, [shell("echo hi"), FINAL])
    assert person.run([AGENT, "run", str(task)]).returncode == 0
    runs = person.folder / "runs"

    def unreadable(operation: Operation) -> int | None:
        is_journal = operation.path.endswith("journal.jsonl")
        return errno.EIO if operation.name == "pread64" and is_journal else None

    with Faults(runs, unreadable, reads=True) as faults:
        done = faults.run(person, [AGENT, verb, "last", "--out", str(runs)])
    assert faults.struck
    assert done.returncode == 5, done.stderr
    assert "cannot be read: Input/output error" in done.stderr
    assert "Traceback" not in done.stderr


DURABLE = """
import sys
from sandbox_agent import Conversation
with Conversation(model="scripted:" + sys.argv[1], tools=["shell"], workspace=sys.argv[2],
                  output_dir=sys.argv[3], durable=True) as conversation:
    conversation.send_message("go")
    result = conversation.run()
print(result.status, result.exit_code, type(result.error).__name__)
"""


@pytest.mark.parametrize("name", ["fdatasync", "fsync"])
def test_a_disk_that_cannot_sync_fails_a_durable_run(person: Person, name: str) -> None:
    runs = person.folder / "runs"
    steps = person.write(person.folder / "steps.yaml", json.dumps([shell("echo hi"), FINAL]))
    argv = [str(BIN / "python"), "-c", DURABLE, str(steps), str(person.work), str(runs)]
    with Faults(runs, lambda one: errno.EIO if one.name == name else None) as faults:
        done = faults.run(person, argv)
    assert faults.struck
    assert done.stdout == "error 5 NotRecorded\n", done.stderr
    assert (runs / os.listdir(runs)[0] / "journal.jsonl").exists()
    assert threading.active_count() == 1
