"""`sandbox-agent show`: one run as text, found by name, id or a part of it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import identity
import made_runs
import pytest
import struck
from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


def show(me: Person, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return me.run([AGENT, "show", "--out", str(me.folder / "runs"), *argv], **options)


def test_a_run_is_shown_by_its_name_and_goes_on_by_the_next_command(person: Person) -> None:
    turns = [{"calls": [{"shell": {"command": "seq 30; exit 3"}}]}, {"final": "Done."}]
    task = struck.write_task(person, turns, verify=["seq 100; false"])
    done = person.run([AGENT, "run", str(task), "--name", "mine"])
    assert done.returncode == 1, done.stderr
    (folder,) = (person.folder / "runs").iterdir()
    texts = {show(person, run).stdout for run in ("mine", folder.name[-6:], folder.name[:20])}
    assert len(texts) == 1
    (text,) = texts
    assert "name      mine" in text and "Start everything that gets away." in text
    assert "| 30\n" in text and "| 11\n" in text and "| 10\n" not in text
    assert "FAILED, exit status 1" in text and "| 100\n" in text and "| 81\n" in text
    assert show(person, "mine", "--whole").stdout.count("| 10\n") == 2
    told = show(person, "mine").stderr
    assert told == f"next: sandbox-agent resume {folder}\n"


@pytest.mark.parametrize(
    ("run", "code", "named"),
    [
        ("nothing", 2, "there is no run nothing"),
        ("2026112", 2, "2026112 may be any of"),
        ("newer", 2, "the journal has version 99"),
        ("damaged", 2, "journal.jsonl:2: this line is not an event"),
        ("./nowhere", 2, "is not a run"),
        ("half", 2, "there is no journal.jsonl in it"),
    ],
)
def test_what_cannot_be_shown_says_why(me: Person, run: str, code: int, named: str) -> None:
    base = me.folder / "runs"
    for number in (1, 2):
        made_runs.write(base / f"2026112{number}T100000000-abcdef", made_runs.failed_run())
    made_runs.write(base / "newer", [], b'{"event":"journal","version":99,"run":"x"}\n')
    made_runs.write(base / "damaged", made_runs.failed_run()[:1], b"\xff\n")
    (base / "half").mkdir()
    done = show(me, run)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert named in done.stderr and "Traceback" not in done.stderr
    assert "hint: " in done.stderr


def test_a_run_of_another_user_is_refused(person: Person) -> None:
    folder = made_runs.write(person.folder / "runs" / made_runs.ID, made_runs.failed_run())
    journal = folder / "journal.jsonl"
    journal.chmod(0o600)  # root's, who runs the tests
    person.own(person.folder / "runs", folder)
    done = show(person, made_runs.ID)
    if person.uid != os.geteuid():
        assert (done.returncode, done.stdout) == (2, "")
        assert "belongs to another user" in done.stderr
    else:
        assert done.returncode == 0


def test_a_run_becomes_one_html_file(me: Person) -> None:
    events = made_runs.failed_run(name="<script>alert(1)</script>")
    made_runs.write(me.folder / "runs" / made_runs.ID, events)
    page = me.work / "run.html"
    done = show(me, "last", "--html", "run.html")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("run.html: ") and done.stderr.endswith(" kB\n")
    text = page.read_text()
    assert "Make pytest pass." in text and "<script>" not in text
    assert show(me, "last", "--html", "-").stdout == text
    assert show(me, "last", "--html", "/dev/stdout").stdout == text
    for target, code, named in (
        ("nowhere/run.html", 2, "--html nowhere/run.html cannot be written"),
        (str(me.work), 2, "cannot be written"),
        ("/dev/full", 74, "the page was not written: No space left on device"),
    ):
        done = show(me, "last", "--html", target)
        assert (done.returncode, done.stdout) == (code, "") and named in done.stderr


def test_a_script_gets_json(me: Person) -> None:
    made_runs.write(me.folder / "runs" / made_runs.ID, made_runs.failed_run())
    done = show(me, "last", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["status"], found["verify"][0]["passed"]) == ("failed", False)
    done = show(me, "last", "--json", "--whole")
    assert (done.returncode, done.stdout) == (2, "") and "not allowed with" in done.stderr


def test_an_empty_journal_is_shown_as_what_it_is(me: Person) -> None:
    made_runs.write(me.folder / "runs" / made_runs.ID, [])
    done = show(me, made_runs.ID)
    assert done.returncode == 0 and "status    idle" in done.stdout


def test_hostile_text_reaches_neither_a_pipe_nor_a_file_as_it_is(me: Person) -> None:
    events = made_runs.failed_run(name=made_runs.HOSTILE)
    made_runs.write(me.folder / "runs" / made_runs.ID, events)
    done = show(me, "last", encoding="utf-8")
    assert done.returncode == 0
    assert not set(done.stdout) & set("\x1b\0\x07\x9b\u202e\u2028")


def test_a_full_disk_and_a_closed_reader_are_told(me: Person) -> None:
    made_runs.write(me.folder / "runs" / made_runs.ID, made_runs.failed_run())
    with open("/dev/full", "wb") as full:
        assert show(me, "last", stdout=full).returncode == 74
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        assert show(me, "last", stdout=write_end).returncode == 141
    finally:
        os.close(write_end)
