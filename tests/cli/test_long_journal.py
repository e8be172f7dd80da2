"""A run of a hundred thousand events whose agent was killed is cheap to look at and to resume."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import costs
import pytest
from identity import Person
from sandbox_agent.journal.events import (
    VERSION,
    AnyEvent,
    Dispatching,
    Ended,
    JournalOpened,
    RecordedSettings,
    SegmentStarted,
    Started,
    ToolCall,
    TurnTaken,
    UserText,
)
from sandbox_agent.journal.file import encode
from sandbox_agent.journal.result_file import Record, Times, write_record
from sandbox_agent.journal.status import Status
from sandbox_agent_sandbox.outcome import Outcome, StartedState

NOW = {"at": "2026-01-01T00:00:00.000Z", "monotonic": 1.5}
TURNS = 25_000
RUN = "20260101T000000000-abcdef"


@pytest.fixture
def long(person: Person) -> Path:
    """The folder of runs with that run: 180 MB of results and of arguments."""
    folder = person.folder / "runs" / RUN
    folder.mkdir(parents=True, mode=0o700)
    workspace = {"path": str(person.work), "mode": "direct"}
    settings = RecordedSettings(
        "scripted", {}, {"workspace": workspace, "tools": [{"tool": "shell"}]}
    )
    begin: list[AnyEvent] = [
        JournalOpened(version=VERSION, run=RUN, settings=settings, **NOW),
        UserText(text="go", **NOW),
        SegmentStarted(number=1, pid=1, settings=settings, tools=(), plan=None, **NOW),
    ]
    with open(folder / "journal.jsonl", "wb") as file:
        file.writelines(map(encode, begin))
        for turn in range(1, TURNS + 1):
            call = f"call_{turn}_1"
            asked = ToolCall(call, "shell", {"command": f"{turn}: {'z' * (turn % 3 * 1500)}"})
            events: list[AnyEvent] = [
                TurnTaken(turn=turn, text="", final=False, calls=(asked,), **NOW),
                Dispatching(call=call, tool="shell", timeout=120.0, **NOW),
                Started(call=call, **NOW),
                Ended(
                    call=call,
                    outcome=Outcome.OK,
                    started=StartedState.YES,
                    content=f"{turn:06}{'y' * 5600}",
                    exit_status=0,
                    **NOW,
                ),
            ]
            # The agent was killed in the last call.
            file.writelines(map(encode, events if turn < TURNS else events[:3]))
    record = Record(
        run=RUN,
        task=None,
        status=Status.RUNNING,
        exit_code=None,
        reason="",
        pid=1,
        segment=1,
        model="scripted",
        workspace=str(person.work),
        times=Times("2026-01-01T00:00:00.000Z"),
    )
    write_record(folder, record)
    person.own(folder.parent, folder, *folder.iterdir())
    return folder.parent


def measured(person: Person, runs: Path, *argv: str) -> tuple[int, str, float, int]:
    """Exit code, messages, seconds of CPU time, and megabytes at most. The last from inside:
    ru_maxrss counts the memory of the process that forked it as well."""
    report = person.folder / "look.json"
    look = [costs.PYTHON, "-c", costs.LOOK_AT_ITSELF, str(report)]
    command = [*look, *argv, "--out", str(runs)]
    with person.start(command, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        told = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    peak = json.loads(report.read_text())["peak_kib"]
    return process.returncode, told, used.ru_utime + used.ru_stime, peak >> 10


def test_cancel_reads_the_ends_of_a_long_journal_only(person: Person, long: Path) -> None:
    assert (long / RUN / "journal.jsonl").stat().st_size > 170e6
    code, told, seconds, megabytes = measured(person, long, "cancel", "last")
    assert (code, "is dead, and its calls ended with it" in told) == (1, True), told
    # To read all of it takes more than that in either.
    assert (seconds < 0.6, megabytes < 60) == (True, True), (seconds, megabytes)


def test_resume_leaves_long_results_on_the_disk(person: Person, long: Path) -> None:
    steps = person.write(person.folder / "steps.yaml", json.dumps([{"final": "Done."}] * 2))
    argv = ["resume", "last", "--model", f"scripted:{steps}", "--set", "budgets.turns=5"]
    code, told, seconds, megabytes = measured(person, long, *argv, "--prompt", "go on")
    assert f"call_{TURNS}_1 unknown" in told
    assert "all 2 turns are used up" in told
    assert code == 1
    assert (seconds < 4, megabytes < 300) == (True, True), (seconds, megabytes)
