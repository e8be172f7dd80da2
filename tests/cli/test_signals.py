"""How signals reach the command: inherited dispositions, whole process groups, too early."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import identity
import observer
import pytest
import struck
from identity import BIN, Person


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


def ignore(*numbers: int) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_int_and_term_interrupt_even_when_inherited_as_ignored(
    me: Person, number: int, code: int
) -> None:
    """As in `sandbox-agent run &` of a script, whose background jobs have INT ignored."""
    options = {"preexec_fn": lambda: ignore(signal.SIGINT, signal.SIGTERM)}
    with struck.task_at_work(me, **options) as run:
        after = run.strike(number)
    assert after.code == code, after.stderr
    assert after.left == after.lasting == []


def test_int_and_term_interrupt_even_when_inherited_as_blocked(me: Person) -> None:
    blocked = {signal.SIGINT, signal.SIGTERM}
    options = {"preexec_fn": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, blocked)}
    with struck.task_at_work(me, **options) as run:
        after = run.strike(signal.SIGTERM)
    assert after.code == 143, after.stderr
    assert after.left == after.lasting == []


def test_an_ignored_hup_stays_ignored(me: Person) -> None:
    """As under nohup: the INT that follows decides, so the HUP was none."""
    with struck.task_at_work(me, preexec_fn=lambda: ignore(signal.SIGHUP)) as run:
        after = run.strike(signal.SIGHUP, signal.SIGINT)
    assert after.code == 130, after.stderr
    assert after.left == after.lasting == []


def test_a_terminals_ctrl_c_strikes_the_whole_group_and_changes_nothing(me: Person) -> None:
    with struck.task_at_work(me, start_new_session=True) as run:
        everyone = observer.descendants(run.agent.pid)
        with observer.watching(everyone) as handles:
            os.killpg(run.agent.pid, signal.SIGINT)
            _, err = run.agent.communicate(timeout=30)
            assert observer.wait_gone(handles, 10)[1] == []
    assert run.agent.returncode == 130, err
    assert run.result()["status"] == "interrupted"
    assert observer.marked(run.marks[0]) == []


def test_what_ends_the_group_and_so_the_parent_leaves_the_tools_their_grace(me: Person) -> None:
    """As a CI system does: the shell that started us dies of the same signal."""
    tidy = (
        "trap 'sleep 0.3; echo saved > saved; exit 3' INT; echo > up; while :; do sleep 0.01; done"
    )
    task = struck.write_task(
        me, [{"calls": [{"shell": {"command": tidy}}]}, {"final": "never"}], interrupt={"grace": 20}
    )
    up = me.work / "up"
    os.mkfifo(up)
    me.own(up)
    line = f"{BIN / 'sandbox-agent'} run {task}; echo after"
    with me.start(["sh", "-c", line], start_new_session=True, env={"CI": "true"}) as shell:
        with open(up) as opened:
            assert opened.readline() == "\n"
        everyone = observer.descendants(shell.pid)
        with observer.watching(everyone) as handles:
            os.killpg(shell.pid, signal.SIGTERM)
            assert shell.wait(10) == -signal.SIGTERM
            assert observer.wait_gone(handles, 30)[1] == []
    assert (me.work / "saved").read_text() == "saved\n"
    (folder,) = (me.folder / "runs").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert (result["status"], [call["rung"] for call in result["calls"]]) == (
        "interrupted",
        ["flag"],
    )


@pytest.mark.parametrize("moment", [0.0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4])
def test_a_signal_at_any_moment_of_the_start_leaves_nothing(me: Person, moment: float) -> None:
    """Seconds after the exec. They pick an instant; nothing is synchronised by them."""
    mark = observer.new_mark()
    turns = [{"calls": [{"shell": {"command": f"sleep 300.{mark}"}}]}, {"final": "never"}]
    task = struck.write_task(me, turns)
    with me.start([str(BIN / "sandbox-agent"), "run", str(task)]) as agent:
        with contextlib.suppress(subprocess.TimeoutExpired):
            agent.wait(moment)
        with observer.watching(observer.descendants(agent.pid)) as handles:
            agent.terminate()
            out, err = agent.communicate(timeout=30)
            assert observer.wait_gone(handles, 10)[1] == []
    # Before Python has come to our first line, SIGTERM does what it does to any program.
    assert agent.returncode in (143, -signal.SIGTERM), err
    assert out == ""
    assert "Traceback" not in err
    assert observer.marked(mark) == []
    runs = me.folder / "runs"
    for folder in runs.iterdir() if runs.is_dir() else []:
        if (folder / "result.json").exists():
            result = json.loads((folder / "result.json").read_text())
            assert (result["status"], result["exit_code"]) == ("interrupted", 143)


def test_repeated_signals_end_a_command_that_reads_for_ever(me: Person) -> None:
    """Its steps, for instance, from a pipe or a disk that hangs."""
    task = struck.write_task(me, [{"final": "never"}])
    steps = next(task.parent.glob("*steps*"))
    steps.unlink()
    os.mkfifo(steps)
    me.own(steps)
    until = time.monotonic() + 30
    with me.start([str(BIN / "sandbox-agent"), "run", str(task)]) as agent:
        while time.monotonic() < until:
            try:
                writer = os.open(steps, os.O_WRONLY | os.O_NONBLOCK)
                break
            except OSError:  # it does not read yet
                with contextlib.suppress(subprocess.TimeoutExpired):
                    agent.wait(0.01)
        while agent.poll() is None and time.monotonic() < until:
            agent.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                agent.wait(0.1)
        os.close(writer)
        assert agent.returncode in (143, -signal.SIGTERM)
    assert not (me.folder / "runs").exists()


def test_repeated_signals_end_a_command_that_lost_the_first_one(me: Person) -> None:
    """An exception that strikes in a destructor is lost; so it is here."""
    loses = (
        "import time\n"
        "from sandbox_agent.cli.signals import Signals, Stopped\n"
        "Signals().install()\n"
        "while True:\n"
        "    try:\n"
        "        print('up', flush=True)\n"
        "        while True:\n"
        # It has nothing to do. Not by pause(2), which can begin just after the signal.
        "            time.sleep(0.01)\n"
        "    except Stopped:\n"
        "        pass\n"
    )
    with me.start([sys.executable, "-c", loses]) as lost:
        assert lost.stdout is not None
        for _ in range(2):
            assert lost.stdout.readline() == "up\n"
            lost.terminate()
        until = time.monotonic() + 30
        while time.monotonic() < until:
            lost.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                lost.wait(0.1)
                break
        assert (lost.stdout.read(), lost.returncode) == ("", -signal.SIGTERM)
