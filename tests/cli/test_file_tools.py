"""What the file tools write: told to the user where it is lost, and cleaned up after a kill."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

import observer
import struck
from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")
LEFT = ".tmp-sandbox-agent-0123456789abcdef"


def ends(person: Person) -> dict[str, dict[str, Any]]:
    (folder,) = (path for path in (person.folder / "runs").iterdir() if path.is_dir())
    events = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    return {event["call"]: event for event in events if event["event"] == "ended"}


def files(*made: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"calls": [one]} for one in made] + [{"final": "Written."}]


def test_files_in_private_places_are_told_to_the_model_and_to_the_user(person: Person) -> None:
    outside = Path("/tmp") / f"private-{observer.new_mark()}.md"
    write = "write_file"
    turns = files(
        {write: {"path": str(outside), "content": "report"}},
        {write: {"path": "~/deep/notes.md", "content": "x"}},
        {write: {"path": "/dev/shm/z", "content": "x"}},
        {"shell": {"command": "ln -s /tmp way"}},
        {write: {"path": "way/linked", "content": "x"}},
        {"edit_file": {"path": "~/deep/notes.md", "old": "x", "new": "y"}},
        {write: {"path": "kept", "content": "x"}},
        {write: {"path": str(person.work / "kept too"), "content": "x"}},
        {write: {"path": "/tmp/x\x1b]52;c;aGk=\x07", "content": "x"}},
        {write: {"path": "/srv/x", "content": "x"}},
    )
    task = struck.write_task(person, turns, tools=["shell", "files"])
    done = person.run([AGENT, "run", str(task)])
    assert done.returncode == 0, done.stderr
    assert not outside.exists()
    found = ends(person)
    private = {
        "call_1_1": str(outside),
        "call_2_1": "/tmp/home/deep/notes.md",
        "call_3_1": "/dev/shm/z",
        "call_5_1": "/tmp/linked",
        "call_6_1": "/tmp/home/deep/notes.md",
        "call_9_1": "/tmp/x\x1b]52;c;aGk=\x07",
    }
    for call, end in found.items():
        assert end["private_files"] == ([private[call]] if call in private else []), call
        told = "is private to the sandbox" in end["content"]
        assert told == (call in private)
    assert f"the workspace, {person.work}" in found["call_1_1"]["content"]
    assert "call_10_1 error" in done.stderr and "you can write in the workspace" in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("  lost, because")]
    assert [line.partition(": ")[2] for line in lines] == [
        str(outside),
        "/tmp/home/deep/notes.md",
        "/dev/shm/z",
        "/tmp/linked",
        "/tmp/x\\x1b]52;c;aGk=\\x07",
    ]
    (folder,) = (path for path in (person.folder / "runs").iterdir() if path.is_dir())
    record = json.loads((folder / "result.json").read_text())
    assert record["calls"][0]["private_files"] == [str(outside)]


def test_a_private_place_that_a_command_and_a_person_name_is_told_to_the_user(
    person: Person,
) -> None:
    turns = [
        {"calls": [{"shell": {"command": "echo x >/tmp/r.md; echo > /tmp/r.md.bak; ls /dev/shm"}}]},
        {
            "calls": [
                {"shell": {"command": "cp kept '/dev/shm/a b'; touch ~/notes.md /tmp/scratch"}}
            ]
        },
        {"calls": [{"write_file": {"path": "/tmp/w.md", "content": "x"}}]},
        {"final": f"See `~/notes.md`, /tmp/w.md, /tmp/nobody.md and {person.work}/kept."},
    ]
    task = struck.write_task(
        person, turns, tools=["shell", "files"], prompt="Write the report to /tmp/r.md."
    )
    done = person.run([AGENT, "run", str(task)])
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "private to the sandbox" in line]
    assert [line.partition(": inside")[0] for line in lines] == [
        "  lost, because it was private to the sandbox: /tmp/w.md",
        "  a shell command names /tmp/r.md",
        "  a shell command names ~/notes.md",
    ]


def test_a_workspace_below_tmp_is_not_private(person: Person) -> None:
    file = person.work / "kept"  # the folders of tests lie in /tmp or elsewhere
    outside = Path("/tmp") / f"ws-{observer.new_mark()}"
    outside.mkdir()
    person.own(outside)
    try:
        turns = [
            {"calls": [{"shell": {"command": f"echo x > {outside}/kept; echo x > {file}"}}]},
            {"calls": [{"write_file": {"path": str(outside / "too"), "content": "x"}}]},
            {"final": f"See {outside}/kept and {outside}/too."},
        ]
        place = {"workspace": {"path": str(outside)}}
        task = struck.write_task(person, turns, tools=["shell", "files"], **place)
        done = person.run([AGENT, "run", str(task)])
        assert done.returncode == 0, done.stderr
        assert sorted(os.listdir(outside)) == ["kept", "too"]
        assert "private" not in done.stderr
    finally:
        shutil.rmtree(outside)


def test_a_file_is_cut_at_a_line_also_where_less_of_an_output_is_kept(person: Person) -> None:
    lines = [f"{number:04} some text" for number in range(1000)]
    person.write(person.work / "f", "\n".join(lines))
    limits = {"limits": {"output": "2k"}}
    turns = files({"read_file": {"path": "f"}}, {"find_files": {"pattern": "*"}})
    task = struck.write_task(person, turns, tools=["files"], sandbox=limits)
    done = person.run([AGENT, "run", str(task)])
    assert done.returncode == 0, done.stderr
    *read, notice = ends(person)["call_1_1"]["content"].splitlines()
    assert read == lines[: len(read)] and len(read) > 50
    assert notice == f"[the file goes on: offset={len(read) + 1}]"


def test_a_killed_agents_temporary_file_is_gone_after_the_resume(person: Person) -> None:
    (person.work / "sub").mkdir()
    file = person.write(person.work / "sub/f", "old")
    person.own(person.work / "sub")
    turns = files({"shell": {"command": f"ln -s sub way; echo rest > sub/{LEFT}; cp sub/{LEFT} ."}})
    # The call is in flight for as long as the test holds the lock.
    turns[1:1] = files({"write_file": {"path": "way/f", "content": "new"}})[:1]
    task = struck.write_task(person, turns, tools=["shell", "files"])
    with open(file) as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with person.start([AGENT, "run", str(task)]) as agent:
            run = struck.Struck(agent, person, [])

            def in_flight() -> bool:
                # Its journal may not be there yet, and its last line may be half written.
                journals = (person.folder / "runs").glob("*/journal.jsonl")
                lines = [line for journal in journals for line in journal.read_text().splitlines()]
                return any('"started"' in line and '"call_2_1"' in line for line in lines)

            try:
                observer.eventually(in_flight, struck.ARRIVAL)
            finally:
                run.kill()
    assert (person.work / "sub" / LEFT).exists()
    done = person.run([AGENT, "resume", "last", "--out", str(person.folder / "runs")])
    assert done.returncode == 0, done.stderr
    assert ends(person)["call_2_1"]["outcome"] == "unknown"
    assert not (person.work / "sub" / LEFT).exists()
    assert (person.work / LEFT).exists()  # no call in flight had to do with that folder
    assert file.read_text() == "old"


def test_a_call_that_the_ladder_killed_leaves_no_temporary_file(person: Person) -> None:
    file = person.write(person.work / "f", "old")
    outside = person.folder / "outside"
    outside.mkdir()
    (outside / LEFT).write_text("not ours")
    turns = [
        {"calls": [{"shell": {"command": f"echo rest > {LEFT}; ln -s {outside} way"}}]},
        {"calls": [{"write_file": {"path": "f", "content": "new"}}]},
        {"calls": [{"write_file": {"path": "way/f", "content": "new"}}]},
        {"final": "Done."},
    ]
    more = {"tools": ["shell", {"files": {"timeout": "500ms"}}]}
    task = struck.write_task(person, turns, **more)
    with open(file) as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        done = person.run([AGENT, "run", str(task)])
    assert done.returncode == 0, done.stderr
    assert ends(person)["call_2_1"]["outcome"] == "timeout"
    assert sorted(os.listdir(person.work)) == ["f", "way"]
    assert (outside / LEFT).exists()
