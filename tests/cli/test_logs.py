"""`sandbox-agent logs`: what a run printed; with -f until it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import identity
import made_runs
import observer
import pytest
import struck
from identity import BIN, Person
from made_runs import HOSTILE

AGENT = str(BIN / "sandbox-agent")


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


def command(me: Person, *argv: str) -> list[str]:
    return [AGENT, "logs", "--out", str(me.folder / "runs"), *argv]


def logs(me: Person, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return me.run(command(me, *argv), **options)


def waiting_run(me: Person) -> tuple[subprocess.Popen[str], Path]:
    """A run whose second call waits until somebody writes to the pipe `go` of its workspace."""
    os.mkfifo(me.work / "go")
    me.own(me.work / "go")
    turns = [
        {"calls": [{"shell": {"command": "seq 100000"}}]},
        {"calls": [{"shell": {"command": "cat go; echo went"}}]},
        {"final": "Done."},
    ]
    run = me.start([AGENT, "run", str(struck.write_task(me, turns))])
    return run, me.work / "go"


def test_a_live_run_is_followed_to_its_end(person: Person) -> None:
    run, go = waiting_run(person)
    with run:
        observer.eventually(lambda: list((person.folder / "runs").glob("*/output/*.txt")), 60)
        with person.start(command(person, "-f", "last")) as follower:
            assert follower.stdout is not None
            seen = iter(follower.stdout)
            for line in seen:
                if line.startswith("call_2_1"):
                    break
            go.write_text("x\n")
            rest = list(seen)
            assert follower.wait(30) == 0
        assert run.wait(30) == 0
        run.communicate()
    assert rest[:3] == ["| x\n", "| went\n", rest[2]] and "call_2_1 ok" in rest[2]
    assert rest[-1] == "done: the agent is done (exit code 0)\n"
    whole = logs(person, "last", "call_1_1")
    assert whole.stdout == "".join(f"{n}\n" for n in range(1, 100001))


def test_the_output_of_a_call_that_is_going_is_waited_for(me: Person) -> None:
    run, go = waiting_run(me)
    with run:
        observer.eventually(lambda: list((me.folder / "runs").glob("*/output/*.txt")), 60)
        with me.start(command(me, "-f", "last", "call_2_1")) as follower:
            done = logs(me, "last", "call_2_1")
            if "has no call" not in done.stderr:  # the call has been asked for by now
                assert (done.returncode, done.stdout) == (1, "") and "no end yet" in done.stderr
            go.write_text("x\n")
            out, _ = follower.communicate(timeout=30)
        run.communicate(timeout=30)
    assert (follower.returncode, out) == (0, "x\nwent\n")


def test_a_follower_ends_with_sigint_and_with_a_reader_that_closes(me: Person) -> None:
    base = made_runs.write(me.folder / "runs" / made_runs.ID, made_runs.failed_run()[:-1])
    with made_runs.held(base):
        with me.start(command(me, "-f", "last")) as follower:
            assert follower.stdout is not None
            assert follower.stdout.readline().startswith("user: ")
            follower.send_signal(signal.SIGINT)
            _, err = follower.communicate(timeout=30)
        assert follower.returncode == 130 and "Traceback" not in err
        with me.start(command(me, "-f", "last")) as follower:
            assert follower.stdout is not None and follower.stderr is not None
            assert follower.stdout.readline().startswith("user: ")
            follower.stdout.close()
            assert follower.wait(30) in (0, 141)  # nothing more came that could be lost
            assert follower.stderr.read() == ""


def test_the_log_of_a_ci_job_gets_no_commands_from_inside(me: Person) -> None:
    events = made_runs.failed_run(name=made_runs.HOSTILE)
    clock = made_runs.Clock()
    inside = [
        made_runs.turn(clock, 3, 3.0, made_runs.shell("c", "::stop-commands::x"), text=HOSTILE),
        *made_runs.made(clock, "c", 3.0, 3.1, HOSTILE),
    ]
    made_runs.write(me.folder / "runs" / made_runs.ID, [*events[:-1], *inside, events[-1]])
    for argv in (["last"], ["last", "c"]):
        outside = logs(me, *argv).stdout
        assert "##vso[" in outside
        done = logs(me, *argv, env={"CI": "true", "GITHUB_ACTIONS": "true"})
        assert done.returncode == 0
        assert not re.search(r"^\s*::|##vso\[|section_start:", done.stdout, re.MULTILINE)
        assert "add-mask" in done.stdout


@pytest.mark.parametrize("size", [(24, 80), (12, 40)])
def test_a_terminal_gets_its_width_and_no_escapes_and_may_go_away(
    me: Person, size: tuple[int, int]
) -> None:
    folder = made_runs.write(
        me.folder / "runs" / made_runs.ID, made_runs.failed_run(name=made_runs.HOSTILE)[:-1]
    )
    master, slave = os.openpty()
    try:
        termios.tcsetwinsize(slave, size)
        listing = [AGENT, "ls", "--out", str(me.folder / "runs")]
        assert me.run(listing, stdout=slave).returncode == 0
        shown = os.read(master, 65536).decode().replace("\r\n", "\n")
        assert max(map(len, shown.splitlines())) <= size[1]
        assert made_runs.ID[-6:] in shown and "lost" in shown and "\x1b" not in shown
        with made_runs.held(folder), me.start(command(me, "-f", "last"), stdout=slave) as follower:
            os.close(slave)
            slave = -1
            assert b"user: Make pytest pass." in os.read(master, 65536)
            os.close(master)  # the window is closed; the run goes on
            master = -1
            assert follower.wait(30) in (0, 141)
            assert follower.stderr is not None and follower.stderr.read() == ""
    finally:
        for fd in (master, slave):
            if fd >= 0:
                os.close(fd)


def test_a_lost_run_ends_the_follower_which_says_so(me: Person) -> None:
    with struck.task_at_work(me) as run, me.start(command(me, "-f", "last")) as follower:
        assert follower.stdout is not None
        assert any("call_1_1 shell" in line for line in follower.stdout)
        run.kill()
        out, err = follower.communicate(timeout=30)
    assert follower.returncode == 0, out
    assert f"the agent of the run {run.run_folder.name} is dead" in err
    assert "resume" in err


@pytest.mark.parametrize(
    ("argv", "code", "named"),
    [
        (["last", "call_1_2"], 2, "has no call call_1_2\n  hint: did you mean call_1_1?"),
        (["last", "x\x1b[2J"], 2, "has no call x\\x1b[2J"),
        (["nothing"], 2, "there is no run nothing"),
        (["damaged"], 2, "journal.jsonl:2: this line is not an event"),
        (["newer", "-f"], 2, "the journal has version 99"),
    ],
)
def test_what_cannot_be_printed_says_why(
    me: Person, argv: list[str], code: int, named: str
) -> None:
    base = me.folder / "runs"
    made_runs.write(base / made_runs.ID, made_runs.failed_run())
    made_runs.write(base / "newer", [], b'{"event":"journal","version":99,"run":"x"}\n')
    made_runs.write(base / "damaged", made_runs.failed_run()[:1], b"\xff\n")
    done = logs(me, *argv)
    assert done.returncode == code, done.stderr
    assert named in done.stderr.replace(": field", "") and "Traceback" not in done.stderr
