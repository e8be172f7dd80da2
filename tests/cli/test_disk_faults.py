"""A disk that fails at any file operation of a run: the run says so, and claims nothing false."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import struck
from faults import Faults, Operation, Short
from identity import BIN, Person
from sandbox_agent.journal.events import SegmentEnded
from sandbox_agent.journal.file import read_journal

AGENT = str(BIN / "sandbox-agent")
LONG = "head -c 40000 /dev/zero | tr '\\0' y"
STEPS: list[dict[str, Any]] = [
    {"calls": [{"shell": {"command": "echo one >> one"}}, {"shell": {"command": LONG}}]},
    {"calls": [{"shell": {"command": "echo two >> two"}}]},
    {"final": "Done."},
]


@dataclass(frozen=True)
class Fault:
    """What the n-th operation returns; lasting: and each one after it."""

    number: int
    fate: int | Short
    lasting: bool

    def __call__(self, operation: Operation) -> int | Short | None:
        is_hit = operation.number == self.number or (
            self.lasting and operation.number > self.number
        )
        return self.fate if is_hit else None

    def __str__(self) -> str:
        kind = errno.errorcode[self.fate] if isinstance(self.fate, int) else "short"
        return f"{kind} at {self.number}{' and after' if self.lasting else ''}"


FATES: tuple[int | Short, ...] = (
    errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, Short(7), errno.EFBIG,
)  # fmt: skip
ALL = [(fate, lasting) for fate in FATES for lasting in (False, True)]


def a_run(person: Person) -> tuple[list[str], Path]:
    task = struck.write_task(person, STEPS, verify=["true"])
    return [AGENT, "run", str(task)], person.folder / "runs"


def operations(person: Person) -> list[Operation]:
    """The file operations of a run on its folder."""
    argv, runs = a_run(person)
    with Faults(runs, lambda operation: None) as faults:
        done = faults.run(person, argv)
    assert done.returncode == 0, done.stderr
    _clean(person)
    return faults.seen


def a_resume(person: Person) -> tuple[list[str], Path]:
    """Resumes a run that spent its budget and whose last line was torn. A copy of it stays."""
    task = struck.write_task(person, STEPS, verify=["true"], budgets={"turns": 1})
    runs = person.folder / "runs"
    done = person.run([AGENT, "run", str(task)])
    assert done.returncode == 3, done.stderr
    (folder,) = runs.iterdir()
    with open(folder / "journal.jsonl", "ab") as file:
        file.write(b'{"event":"torn')
    subprocess.run(["cp", "-a", runs, person.folder / "before"], check=True)
    return [AGENT, "resume", "last", "--out", str(runs), "--set", "budgets.turns=50"], runs


def strike_resume(person: Person, argv: list[str], runs: Path, fault: Fault) -> list[str]:
    """Resumes with one fault, then without. Returns what is wrong."""
    subprocess.run(["rm", "-rf", runs], check=True)
    subprocess.run(["cp", "-a", person.folder / "before", runs], check=True)
    with Faults(runs, fault) as faults:
        done = faults.run(person, argv)
    wrong = [*told(done), *(judged(done, runs) if done.returncode == 0 else ())]
    again = person.run(argv)
    (folder,) = runs.iterdir()
    end, record = end_of(folder), record_of(folder)
    if again.returncode not in (0, 2) or end is None or record is None:
        wrong.append(f"to resume again: {again.returncode}: {again.stderr}")
    elif not (end.status, end.exit_code) == (record["status"], record["exit_code"]) == ("done", 0):
        wrong.append(f"after that the journal says {end}, the record {record}")
    what = f"{fault}: {', '.join(map(str, faults.struck[:3]))}"
    return [f"{what}: {one}\n    exit {done.returncode}: {done.stderr.strip()}" for one in wrong]


def _clean(person: Person) -> None:
    for path in (person.folder / "runs", person.folder / "task"):
        subprocess.run(["rm", "-rf", path], check=True)
    for name in ("one", "two"):
        (person.work / name).unlink(missing_ok=True)


def strike(person: Person, fault: Fault) -> list[str]:
    """Runs with one fault, then resumes without. Returns what is wrong."""
    argv, runs = a_run(person)
    with Faults(runs, fault) as faults:
        done = faults.run(person, argv)
    wrong = list(judged(done, runs))
    if runs.exists() and any(runs.iterdir()):
        wrong += resumed(person, runs)
    _clean(person)
    what = f"{fault}: {', '.join(map(str, faults.struck[:3]))}"
    return [f"{what}: {one}\n    exit {done.returncode}: {done.stderr.strip()}" for one in wrong]


def end_of(folder: Path) -> SegmentEnded | None:
    last = [*read_journal(folder / "journal.jsonl")][-1:]
    return last[0] if last and isinstance(last[0], SegmentEnded) else None


def record_of(folder: Path) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads((folder / "result.json").read_text())
    except FileNotFoundError:
        return None
    return record


SAYS_SO = ("cannot be written", "cannot be recorded", "cannot be opened")


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What is wrong with the exit code and the messages."""
    wrong = []
    if done.returncode not in (0, 2, 5):
        wrong.append("the exit code says something else")
    if "Traceback" in done.stderr or "bug" in done.stderr:
        wrong.append("a bug is reported")
    if done.returncode and not any(words in done.stderr for words in SAYS_SO):
        wrong.append("nobody is told what is missing")
    return wrong


def judged(done: subprocess.CompletedProcess[str], runs: Path) -> list[str]:
    wrong = told(done)
    says_so = any(words in done.stderr for words in SAYS_SO)
    folders = list(runs.iterdir()) if runs.exists() else []
    if not folders or not (folders[0] / "journal.jsonl").exists():
        return wrong if done.returncode else [*wrong, "there is no record"]
    (folder,) = folders
    end, record = end_of(folder), record_of(folder)
    ended = None if end is None else (end.status, end.exit_code)
    recorded = None if record is None else (record["status"], record["exit_code"])
    if done.returncode == 0 and not ended == recorded == ("done", 0):
        wrong.append(f"the journal says {ended}, the record {recorded}")
    if ended is not None and recorded is not None and ended != recorded and not says_so:
        wrong.append(f"the journal says {ended}, the record {recorded}, and nobody is told")
    if recorded == ("done", 0) and ended != recorded:
        wrong.append(f"the record claims a success that the journal ({ended}) does not have")
    return wrong


def resumed(person: Person, runs: Path) -> list[str]:
    again = person.run([AGENT, "resume", "last", "--out", str(runs)])
    if "Traceback" in again.stderr or again.returncode not in (0, 2):
        return [f"resume: {again.returncode}: {again.stderr}"]
    if again.returncode == 2:
        reasons = ("is done", "there are no runs", "ends before the first message")
        if not any(reason in again.stderr for reason in reasons):
            return [f"resume: {again.stderr}"]
        if "is done" not in again.stderr:
            return []
    (folder,) = runs.iterdir()
    end, record = end_of(folder), record_of(folder)
    assert end is not None and record is not None
    if not (end.status, end.exit_code) == (record["status"], record["exit_code"]) == ("done", 0):
        return [f"after resume the journal says {end}, the record {record}"]
    # A call that could not be recorded before it was sent is skipped; none is made twice.
    paths = [person.work / name for name in ("one", "two")]
    ran = [path.read_text().count("\n") for path in paths if path.exists()]
    return [] if max(ran, default=0) <= 1 else [f"the calls ran {ran} times"]


@pytest.mark.as_user
def test_a_run_whose_disk_fails_once_or_from_then_on_tells_the_truth(person: Person) -> None:
    """A sample: the first or the last operation of every other kind, with every kind of fault."""
    places: dict[tuple[str, str], list[int]] = {}
    for one in operations(person):
        places.setdefault((one.name, os.path.basename(one.path)), []).append(one.number)
    assert len(places) > 8, places
    wrong: list[str] = []
    struck = set()
    for place, numbers in enumerate(list(places.values())[::2]):
        fate, lasting = ALL[5 * place % len(ALL)]  # 5 and 12 share no factor: every one comes
        struck.add(fate)
        wrong += strike(person, Fault(numbers[-(place % 2)], fate, lasting))
    assert not wrong, "\n".join(wrong)
    assert struck == set(FATES)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("fate", FATES, ids=str)
def test_every_operation_with_every_fault(person: Person, fate: int | Short, lasting: bool) -> None:
    wrong: list[str] = []
    for one in operations(person):
        wrong += strike(person, Fault(one.number, fate, lasting))
    assert not wrong, "\n".join(wrong)


@pytest.mark.as_user
def test_one_fault_at_the_end_is_got_over(person: Person) -> None:
    """At the journal's last line, and at each step of the record."""
    last = {(one.name, os.path.basename(one.path)): one.number for one in operations(person)}
    argv, runs = a_run(person)
    for name, file in (
        ("write", "journal.jsonl"),
        ("pwrite64", ".result.json.next"),
        ("renameat", ".result.json.next"),
    ):
        fault = Fault(last[name, file], errno.EIO, lasting=False)
        with Faults(runs, fault) as faults:
            done = faults.run(person, argv)
        assert [one.name for one in faults.struck] == [name]
        assert done.returncode == 0, done.stderr
        (folder,) = runs.iterdir()
        end, record = end_of(folder), record_of(folder)
        assert end is not None
        assert record is not None
        assert (end.status, end.exit_code) == (record["status"], record["exit_code"]) == ("done", 0)
        subprocess.run(["rm", "-rf", runs], check=True)


@pytest.mark.as_user
def test_a_resume_whose_disk_fails_tells_the_truth_and_can_be_made_again(person: Person) -> None:
    """A sample, as above."""
    argv, runs = a_resume(person)
    with Faults(runs, lambda operation: None) as faults:
        assert faults.run(person, argv).returncode == 0
    wrong: list[str] = []
    for place, one in enumerate(faults.seen[2::4]):
        fate, lasting = ALL[place % len(ALL)]
        wrong += strike_resume(person, argv, runs, Fault(one.number, fate, lasting))
    assert not wrong, "\n".join(wrong)
