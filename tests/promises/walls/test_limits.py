"""A limit binds, what it ends is named with its number, and what comes after goes on.

As root the kernel counts in control groups; as an ordinary user the sandbox's init looks.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import struck
from identity import BIN, Person
from sandbox_agent_sandbox.limits.places import find_places, new_name, remove

AGENT = str(BIN / "sandbox-agent")
HOLD = "import mmap, time; x = mmap.mmap(-1, {0} << 20); x.write(bytes({0} << 20)); time.sleep({1})"
MEMFD = (
    "import os, time; f = os.memfd_create('x'); os.set_inheritable(f, True); "
    "[os.write(f, bytes(1 << 20)) for _ in range(200)]; time.sleep(30)"
)
SHUT = """
import ctypes, mmap, time


def hold() -> str:
    "Hold memory that others could share."
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    kept = mmap.mmap(-1, 200 << 20)
    for _ in range(200):
        kept.write(bytes(1 << 20))
    time.sleep(30)
    return "held"
"""
FORK = (
    "import os, signal\n"
    "try:\n"
    "    while True:\n"
    "        os.fork() or signal.pause()\n"
    "except BlockingIOError:\n"
    "    signal.sigtimedwait([], 0.3)\n"
    "    raise\n"
)
"""It stays at the limit for a moment: an ordinary user's processes are counted now and then."""


def shell(command: str, **more: object) -> dict[str, Any]:
    return {"shell": {"command": command, **more}}


def python(text: str) -> str:
    """The command line of a Python program without double quotes."""
    return f'python3 -c "{text}"'


def run_calls(
    person: Person,
    calls: list[list[dict[str, Any]]],
    tools: Sequence[str] = ("shell",),
    **limits: object,
) -> list[Any]:
    """The ends of the calls of one run, a turn each list, as its journal has them."""
    turns = [{"calls": turn} for turn in calls]
    steps = [*turns, {"final": "done"}]
    path = struck.write_task(person, steps, tools=tools, sandbox={"limits": limits})
    runs = person.folder / "runs"
    done = person.run([AGENT, "run", str(path), "--out", str(runs)])
    assert done.returncode == 0, done.stderr
    (folder,) = (one for one in runs.iterdir() if one.is_dir())
    events = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    record = json.loads((folder / "result.json").read_text())
    ends = [event for event in events if event["event"] == "ended"]
    told = {call["id"]: call["limits"] for call in record["calls"]}
    assert {end["call"]: end["limits"] for end in ends} == told
    return ends


def names(end: dict[str, Any]) -> list[str]:
    return [one["limit"] for one in end["limits"]]


def test_memory_of_all_calls_is_bounded_whoever_holds_it(person: Person) -> None:
    text = "memory 128 MiB of all calls together: "
    private, memfd, together, after = run_calls(
        person,
        [
            [shell(python("import time; x = bytearray(300 << 20); time.sleep(30)") + "; echo on")],
            [shell(python(MEMFD) + "; echo on")],
            [shell("\n".join(f"{python(HOLD.format(50, 30))} &" for _ in range(4)) + "\nwait -n")],
            [shell("echo fine")],
        ],
        memory="128MiB",
    )
    for end in (private, memfd, together):
        assert names(end) == ["memory"], end
        assert f"limit: {text}" in end["detail"], end
        assert end["limits"][0]["value"] == 128 << 20
    # The largest process alone is ended, and the call goes on.
    assert private["content"].endswith("on\n")
    assert (after["content"], after["limits"], after["detail"]) == ("fine\n", [], "")


def test_a_tool_that_has_shut_itself_is_counted_with_what_it_shares(person: Person) -> None:
    """Its worker runs no new program, so the sandbox's init cannot look into it any more. It still
    sees how large it is. PR_SET_DUMPABLE(2const)"""
    person.write(person.work / "shut.py", SHUT)
    end, after = run_calls(
        person,
        [[{"hold": {}}], [shell("echo fine")]],
        tools=["shell", "shut:hold"],
        memory="128MiB",
    )
    assert names(end) == ["memory"], end
    assert after["content"] == "fine\n"


def test_memory_that_runs_out_around_the_sandbox_is_called_that(person: Person) -> None:
    """In a control group of the agent and all that it starts, as of a CI job. The kernel ends the
    tool, and not the agent."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    found = find_places()
    if found is None or found.version != 1:
        pytest.skip("needs a control group for memory that can be written")
    group = Path(found.memory, new_name())
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(256 << 20))
        enter = f'echo $$ > {group}/cgroup.procs; exec "$0" "$@"'
        hold = python("x = bytearray(400 << 20)")
        path = struck.write_task(
            person, [{"calls": [shell(f"{hold}; echo on")]}, {"final": "done"}]
        )
        runs = person.folder / "runs"
        argv = person.command([AGENT, "run", str(path), "--out", str(runs)])
        done = subprocess.run(
            ["sh", "-c", enter, *argv],
            cwd=person.work,
            env=person.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (journal,) = runs.glob("*/journal.jsonl")
        events = [json.loads(line) for line in journal.read_text().splitlines()]
        [end] = [event for event in events if event["event"] == "ended"]
        assert end["content"].endswith("on\n")
        assert "memory ran out beyond the sandbox's own limits: the kernel ended" in end["detail"]
        assert end["limits"] == []
    finally:
        struck.observer.eventually(lambda: not (group / "cgroup.procs").read_text(), 20)
        remove(str(group))


def test_one_call_is_bounded_apart_and_leaves_the_others_alone(person: Person) -> None:
    ends = run_calls(
        person,
        [[shell(python(HOLD.format(150, 30))), shell(python(HOLD.format(20, 1)) + "; echo on")]],
        memory="1GiB",
        call_memory="96MiB",
    )
    large, small = sorted(ends, key=lambda end: str(end["call"]))
    assert names(large) == ["call_memory"]
    assert "limit: call_memory 96 MiB: " in large["detail"]
    assert (small["content"], small["limits"]) == ("on\n", [])


def test_every_other_limit_is_named_with_its_number(person: Person) -> None:
    files = "x = [open('/dev/null') for _ in range(99)]"
    ends = run_calls(
        person,
        [
            [shell(python(files))],
            [shell("head -c 3000000 /dev/zero > big")],
            [shell(python(FORK))],
            [shell("while :; do :; done")],
            [shell("sleep 30", timeout=1), shell("sleep 30", timeout=99)],
            [shell("echo fine")],
        ],
        open_files=64,
        file_size="1MiB",
        processes=30,
        cpu_time=1,
        timeout="6s",
    )
    expected = [
        ("open_files", 64, "open_files 64: "),
        ("file_size", 1 << 20, "file_size 1 MiB: "),
        ("processes", 30, "processes 30 of all calls together: "),
        ("cpu_time", 1, "cpu_time 1 s: "),
        ("timeout", 1, "timeout 1 s"),
        ("timeout", 6, "timeout 6 s, less than the 99 s that the call asked for"),
    ]
    assert len(ends) == len(expected) + 1
    for end, (name, value, text) in zip(ends, expected, strict=False):
        found = {one["limit"]: one for one in end["limits"]}
        assert name in found, end
        assert found[name]["value"] == value
        assert f"limit: {text}" in end["detail"], end
    assert (ends[-1]["content"], ends[-1]["limits"]) == ("fine\n", [])


def test_a_full_place_in_memory_is_named(person: Person) -> None:
    fill = "dd if=/dev/zero of={}/x bs=1M count=9"
    calls = [[shell(fill.format(place))] for place in ("/tmp", "/dev/shm", ".")]
    ends = run_calls(person, calls, tmp="4MiB", shm="2MiB")
    assert [names(end) for end in ends] == [["tmp"], ["shm"], []]
    assert (
        "/tmp and the home folder, 4 MiB in memory, may be full (limits.tmp)" in ends[0]["detail"]
    )
    assert "/dev/shm, 2 MiB, may be full (limits.shm)" in ends[1]["detail"]


def test_what_is_read_of_large_files_is_no_memory(person: Person) -> None:
    with open(person.work / "big", "wb") as file:
        file.truncate(400 * 2**20)
    look = (
        "import mmap; f = open('big', 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ);"
        " print(sum(m[i] for i in range(0, len(m), 4096)))"
    )
    ends = run_calls(person, [[shell(python(look))], [shell("cat big | wc -c")]], memory="96MiB")
    assert [(end["outcome"], names(end)) for end in ends] == [("ok", [])] * 2
