"""`exec`, whose processes die: it says so, leaves nothing, and its record is whole."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from typing import Any

import kinds
import observer
import pytest
from identity import BIN, Person
from sandbox_agent_sandbox.plan import PlanKind

AGENT = str(BIN / "sandbox-agent")
STOP, KILL = signal.SIGSTOP, signal.SIGKILL
ENDS = {
    ("worker", KILL): (137, "crashed"),
    ("worker", STOP): (130, "cancelled"),
    ("spawner", KILL): (125, "crashed"),
    ("spawner", STOP): (130, "cancelled"),
    ("call", KILL): (125, "crashed"),
    ("call", STOP): (130, "cancelled"),
    ("init", KILL): (125, "crashed"),
    ("init", STOP): (130, "cancelled"),
}
"""By who is struck, and how: the exit code and the outcome of the call. After STOP the command gets
SIGINT. A slow machine may come to SIGKILL: `killed`."""
CASES = [one for one in ENDS if kinds.IN_FORCE is not PlanKind.NO_NAMESPACES or "r" in one[0]]
"""Without namespaces there is neither init."""
BOUND = 0.25
"""Seconds after the end of `exec` until nothing of it may be left."""
ROUNDS = 12


def begin(person: Person, mark: str, *options: str) -> subprocess.Popen[bytes]:
    """`exec` of a command that prints a line and then sleeps, with a child in the background."""
    text = f"sleep 301.{mark} & echo up; exec sleep 300.{mark}"
    argv = [AGENT, "exec", "--out", str(person.folder / "runs"), *options, "--", "sh", "-c", text]
    return subprocess.Popen(
        argv,
        cwd=person.work,
        env=person.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def process_called(agent: int, name: str) -> observer.Process:
    [found] = [one for one in observer.descendants(agent) if one.name == name]
    return found


def record(person: Person) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The events of the only run, and its record; None if there is none."""
    [folder] = [path for path in (person.folder / "runs").iterdir() if path.is_dir()]
    text = (folder / "journal.jsonl").read_text()
    assert text.endswith("\n")
    found = folder / "result.json"
    result = json.loads(found.read_text()) if found.exists() else None
    return [json.loads(line) for line in text.splitlines()], result


@pytest.mark.parametrize(
    ("who", "number"), CASES, ids=[f"{who}-{number.name}" for who, number in CASES]
)
def test_whoever_dies_or_stops_inside_the_end_is_told_and_nothing_is_left(
    person: Person, who: str, number: signal.Signals
) -> None:
    mark = observer.new_mark()
    with begin(person, mark, "--grace", "0.1s") as agent:
        assert agent.stdout is not None and agent.stdout.readline() == b"up\n"
        victim = process_called(agent.pid, f"sandbox-{who}")
        with observer.watching(observer.descendants(agent.pid)) as handles:
            os.kill(victim.pid, number)
            if number == STOP:
                agent.send_signal(signal.SIGINT)
            _, err = agent.communicate(timeout=30)
            _, lasting = observer.wait_gone(handles, BOUND * observer.patience())
    code, outcome = ENDS[who, number]
    assert agent.returncode == code, err
    assert lasting == [] and observer.marked(mark) == []
    events, result = record(person)
    assert result is not None and result["exit_code"] == code
    [ended] = [event for event in events if event["event"] == "ended"]
    assert ended["started"] == "yes"
    if ended["rung"] == "kill":
        outcome = "killed"
    assert (ended["outcome"], ended["rung"] is None) == (outcome, number == KILL)
    assert events[-1]["event"] == "segment_ended"


def test_a_killed_exec_leaves_nothing_and_its_journal_says_how_far_it_came(person: Person) -> None:
    mark = observer.new_mark()
    with begin(person, mark) as agent:
        assert agent.stdout is not None and agent.stdout.readline() == b"up\n"
        with observer.watching(observer.descendants(agent.pid)) as handles:
            agent.kill()
            agent.wait(timeout=30)
            _, lasting = observer.wait_gone(handles, BOUND * observer.patience())
    assert lasting == [] and observer.marked(mark) == []
    events, result = record(person)
    assert events[-1]["event"] == "started"
    assert result is not None and result["status"] == "running"


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_struck_at_any_instant_it_leaves_nothing_and_every_journal_is_true(
    person: Person, seed: int
) -> None:
    """The instant is random; what it meets differs from run to run."""
    chosen = random.Random(seed)
    strikes = chosen.sample([signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], 2)
    mark = observer.new_mark()
    with begin(person, mark, "--grace", "0.1s") as agent:
        for number in strikes:
            try:
                agent.wait(timeout=chosen.uniform(0, 0.8))
            except subprocess.TimeoutExpired:
                agent.send_signal(number)
        with observer.watching(observer.descendants(agent.pid)) as handles:
            _, err = agent.communicate(timeout=60)
            _, lasting = observer.wait_gone(handles, BOUND * observer.patience())
    assert lasting == []
    # An agent that was killed by then had none any more whose end could be waited for.
    observer.eventually(lambda: not observer.marked(mark), BOUND * observer.patience())
    assert observer.marked(mark) == []
    code = agent.returncode
    if not list((person.folder / "runs").glob("*/journal.jsonl")):
        return  # it had not begun: perhaps not even Python had
    assert code in {128 + number for number in strikes} | {-signal.SIGKILL}, err
    events, result = record(person)
    told = [event["event"] for event in events]
    assert [kind for kind in told if kind != STOPPING] == [kind for kind in ORDER if kind in told]
    if code > 0:
        assert told[-1] == "segment_ended" and STOPPING in told
        assert result is not None
        assert (result["status"], result["exit_code"]) == ("interrupted", code)


STOPPING = "cancel_requested"
ORDER = (
    "journal",
    "user_message",
    "segment",
    "model_turn",
    "dispatching",
    "started",
    "ended",
    "segment_ended",
)
