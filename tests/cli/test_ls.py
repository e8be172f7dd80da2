"""`sandbox-agent ls`: finds a run again, whatever lies in the folder of runs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import identity
import made_runs
import observer
import pytest
import struck
from identity import BIN, Person
from made_runs import Clock

AGENT = str(BIN / "sandbox-agent")


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


def ls(me: Person, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return me.run([AGENT, "ls", "--out", str(me.folder / "runs"), *argv], **options)


def listed(me: Person, *argv: str) -> list[dict[str, Any]]:
    done = ls(me, "--json", *argv)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def runs(me: Person) -> Path:
    """Four runs, of which the last is a command of `exec`."""
    base = me.folder / "runs"
    for day, status, model in ((1, "done", "m"), (2, "failed", "m"), (3, "lost", "m"),
                               (4, "done", "exec")):  # fmt: skip
        clock = Clock(f"2026-11-0{day}T10:00:00.000Z")
        events = [made_runs.opened(clock, "fix", model=model), made_runs.begun(clock)]
        if model == "exec":
            events[0] = clock(
                type(events[0]), version=2, run="r", name="exec",
                settings=made_runs.settings("exec"),
            )  # fmt: skip
        if status != "lost":
            events.append(made_runs.ended(clock, 1.0, status, requests=day))
        made_runs.write(base / f"2026110{day}T100000000-aaaaa{day}", events)
    return base


def test_runs_are_listed_newest_first_and_chosen_by_status_and_number(me: Person) -> None:
    base = runs(me)
    assert [one["status"] for one in listed(me)] == ["lost", "failed", "done"]
    assert [one["status"] for one in listed(me, "--all")] == ["done", "lost", "failed", "done"]
    (failed,) = listed(me, "--status", "failed")
    assert (failed["run"], failed["name"], failed["turns"]) == (
        "20261102T100000000-aaaaa2", "fix", 2,
    )  # fmt: skip
    assert failed["folder"] == str(base / failed["run"])
    done = ls(me, "-n", "1")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
    assert "2 older runs not shown\n1 command of `exec` not shown; --all shows them" in done.stderr


def test_a_real_run_is_running_then_lost(person: Person) -> None:
    with struck.task_at_work(person) as run:
        (going,) = listed(person)
        assert (going["status"], going["name"], going["turns"]) == ("running", "struck", 1)
        run.kill()
        observer.eventually(lambda: listed(person)[0]["status"] == "lost", 30)
    text = ls(person).stdout
    assert "struck" in text and run.run_folder.name in text


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--status", "broken"], "--status: no run can be broken"),
        (["--status", "faled"], "did you mean failed?"),
        (["-n", "0"], "-n: 0 is not a number of runs"),
        (["-n", "\u0663"], "is not a number of runs"),
        (["-n", "9" * 5000], "is not a number of runs"),
        (["extra"], "extra: there is nothing that this word could be"),
    ],
)
def test_wrong_options_are_refused_with_a_hint(me: Person, argv: list[str], named: str) -> None:
    done = ls(me, *argv)
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr and "hint: " in done.stderr


def test_no_runs_are_said_and_no_error(me: Person) -> None:
    done = ls(me)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"no such runs in {me.folder / 'runs'}\n"
    (me.folder / "runs").touch()
    assert ls(me).returncode == 2


def test_what_cannot_be_read_is_listed_and_named(person: Person) -> None:
    base = person.folder / "runs"
    made_runs.write(base / made_runs.ID, made_runs.failed_run(name=made_runs.HOSTILE))
    odd = base / "20261127T000000000-000000"
    made_runs.write(odd, [], b'{"event":"journal","version":99,"run":"x"}\n')
    (base / "20261126T000000000-000000").mkdir()
    foreign = base / "20261125T000000000-000000"
    made_runs.write(foreign, made_runs.failed_run())
    foreign.chmod(0)  # as one of another user; root may read it all the same
    person.own(base, base / made_runs.ID, base / made_runs.ID / "journal.jsonl", odd,
               odd / "journal.jsonl")  # fmt: skip
    done = ls(person)
    assert done.returncode == 0, done.stderr
    assert "the journal has version 99" in done.stderr
    assert "empty" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    by_run = {one["run"]: one for one in listed(person)}
    assert by_run[odd.name]["status"] == "unreadable"
    if person.uid != 0:
        assert by_run[foreign.name]["error"] == "Permission denied"
    assert by_run[made_runs.ID]["name"] == made_runs.HOSTILE
    assert ls(person, "--json").stdout.isascii() and "##" not in ls(person, "--json").stdout
    foreign.chmod(0o700)


@pytest.mark.parametrize("variables", [{"LC_ALL": "C"}, {"LANG": "tr_TR.ISO-8859-9"}, {}])
def test_a_locale_without_utf8_changes_nothing(me: Person, variables: dict[str, str]) -> None:
    base = me.folder / "runs"
    run = made_runs.write(base / made_runs.ID, made_runs.failed_run(name="größe"))
    copy = os.fsencode(base) + b"/\xff\xfe"
    os.mkdir(copy)
    os.link(run / "journal.jsonl", copy + b"/journal.jsonl")
    done = ls(me, env={"LANG": "", **variables}, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert "größe" in done.stdout and "\ufffd\ufffd" in done.stdout
