"""Ctrl-Z and fg, and what happens to a run when its parent process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import observer
import pytest
from identity import BIN, Person

# Signals from the terminal and from a parent are the same for every user.
PERSONS = ["user"]

AGENT = str(BIN / "sandbox-agent")


def wait_for(condition: Callable[[], bool], what: str, limit: float = 30) -> None:
    """Looks often for what no event announces."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def state(pid: int) -> str:
    """R, S, T, …: proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


@contextmanager
def started(person: Person, argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A command that is ended by force when the test fails: stopped, it would wait for ever."""
    with person.start(argv) as agent:
        try:
            yield agent
        finally:
            agent.kill()


def test_ctrl_z_stops_the_tools_with_us_and_fg_continues_both(person: Person) -> None:
    mark = observer.new_mark()
    text = f"sleep 300.{mark} & setsid sleep 300.{mark} & while :; do sleep 0.01; done"

    def sleeping() -> list[observer.Process]:
        # By their own names: a vfork child has its parent's until its exec.
        return [one for one in observer.marked(mark) if one.command.startswith("sleep ")]

    with started(person, [AGENT, "exec", "--", "sh", "-c", text]) as agent:
        wait_for(lambda: len(sleeping()) == 2, "the tools have started")
        tools = {one.pid for one in sleeping()} | {one.parent for one in sleeping()}
        agent.send_signal(signal.SIGTSTP)
        wait_for(lambda: state(agent.pid) == "T", "the agent is stopped")
        # The signals have been sent; on a busy machine their targets still have to take them.
        # D: a shell that waits for its vfork child, which is stopped before its exec. vfork(2).
        wait_for(lambda: {state(pid) for pid in tools} in ({"T"}, {"T", "D"}), "the tools stop")
        agent.send_signal(signal.SIGCONT)
        wait_for(lambda: "T" not in {state(pid) for pid in tools}, "the tools go on")
        agent.send_signal(signal.SIGINT)
        assert agent.wait(30) == 130
    assert observer.marked(mark) == []


def test_time_that_a_call_stood_still_does_not_count(person: Person) -> None:
    """A call with a second to run, stopped for two: it has its second all the same."""
    done = person.work / "done"
    text = "touch begun; for i in 1 2 3 4; do sleep 0.1; done; touch done"
    with started(person, [AGENT, "exec", "--timeout", "1.5", "--", "sh", "-c", text]) as agent:
        wait_for((person.work / "begun").exists, "the command has begun")
        agent.send_signal(signal.SIGTSTP)
        wait_for(lambda: state(agent.pid) == "T", "the agent is stopped")
        # Not a synchronisation: what is tested is that this very time is not counted.
        time.sleep(2)
        assert not done.exists()
        agent.send_signal(signal.SIGCONT)
        assert agent.wait(30) == 0
    assert done.exists()


@pytest.mark.parametrize(
    ("environment", "flags", "dies"),
    [
        ({"CI": "true"}, [], True),
        ({"CI": "false"}, [], False),
        ({}, [], False),
        ({}, ["--die-with-parent"], True),
        ({"CI": "true"}, ["--no-die-with-parent"], False),
    ],
)
def test_a_run_outlives_its_parent_unless_it_is_a_ci_job(
    person: Person, environment: dict[str, str], flags: list[str], dies: bool
) -> None:
    mark = observer.new_mark()
    # A shell that waits for the agent and does not pass signals on, as CI systems use.
    command = [AGENT, "exec", *flags, "--out", "runs", "--", "sleep", f"300.{mark}"]
    shell = person.start(
        ["sh", "-c", '"$@" & echo $!; wait', "sh", *command],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    with shell:
        assert shell.stdout is not None
        agent = int(shell.stdout.readline())
        wait_for(
            lambda: any(p.command.startswith("sleep") for p in observer.marked(mark)), "started"
        )
        with observer.watching(observer.marked(mark)) as watched:
            shell.kill()
            shell.wait()
            if not dies:
                assert observer.look(agent) is not None
                os.kill(agent, signal.SIGINT)
            assert observer.wait_gone(watched, 30)[1] == []
        wait_for(lambda: observer.look(agent) is None, "the agent has ended")
    [record] = (person.work / "runs").glob("*/result.json")
    assert f'"exit_code": {129 if dies else 130}' in record.read_text()
