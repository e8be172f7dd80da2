"""Whole programs that use a sandbox without a model, and how they may end."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import observer
import pytest
from identity import Person
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.reports.report import read_report

PROGRAM = """
import asyncio, os, signal, sys, threading
from pathlib import Path
from sandbox_agent import Sandbox

MARK = sys.argv[2]
STUBBORN = f"setsid sleep 300.{MARK} & trap 'echo int' INT; trap '' TERM; echo up; "
STUBBORN += "while :; do sleep 0.05; done"


def greet(name: str) -> str:
    return f"hello {name}"


def box() -> Sandbox:
    return Sandbox(None, ".", journal=Path("runs").absolute(), interrupt=(0.3, 0.3))


def say(stream: str, data: bytes) -> None:
    print(data.decode(), end="", flush=True)


def raises(number: int, frame: object) -> None:
    raise SystemExit(9)


def functions() -> None:
    with box() as one:
        print(one.call(greet, {"name": "you"}).content)
        print(one.run(["id", "-u"]).stdout_text, end="")
        print(one.run(["touch", "made"]).ok)


def waits() -> None:
    with box() as one:
        one.run(["bash", "-c", STUBBORN], on_output=say)


def handler() -> None:
    signal.signal(signal.SIGTERM, raises)
    waits()


async def awaits() -> None:
    async with box() as one:
        await one.run(["bash", "-c", STUBBORN], on_output=say)


def awaited() -> None:
    asyncio.run(awaits())


def awaited_handler() -> None:
    signal.signal(signal.SIGTERM, raises)
    awaited()


def unclosed() -> None:
    one = box().open_blocking()
    threading.Thread(target=lambda: one.run(["bash", "-c", STUBBORN], on_output=first)).start()


def first(stream: str, data: bytes) -> None:
    say(stream, data)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
"""


def start(person: Person, what: str, mark: str) -> subprocess.Popen[str]:
    person.write(person.work / "program.py", PROGRAM)
    return person.start(["python", "program.py", what, mark])


def record(person: Person) -> Path:
    (folder,) = (person.work / "runs").iterdir()
    return folder


def test_a_function_of_the_program_itself_is_called(person: Person) -> None:
    process = start(person, "functions", "0")
    out, err = process.communicate(timeout=60)
    hello, uid, made = out.splitlines()
    assert (hello, made, err, process.returncode) == ("hello you", "True", "", 0)
    assert uid == str(person.uid) or (person.uid == 0 and uid != "0"), "never root inside"
    assert (person.work / "made").stat().st_uid == person.uid


@pytest.mark.parametrize(
    ("what", "number", "times", "code"),
    [
        ("waits", signal.SIGINT, 1, -signal.SIGINT),
        ("waits", signal.SIGINT, 2, -signal.SIGINT),
        ("awaited", signal.SIGINT, 1, -signal.SIGINT),
        ("awaited", signal.SIGINT, 2, -signal.SIGINT),
        ("handler", signal.SIGTERM, 1, 9),
        ("handler", signal.SIGTERM, 2, 9),
        ("awaited_handler", signal.SIGTERM, 2, 9),
    ],
)
def test_a_signal_ends_the_program_when_its_call_has_stopped(
    person: Person, what: str, number: int, times: int, code: int
) -> None:
    mark = observer.new_mark()
    process = start(person, what, mark)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    if times == 2:
        assert process.stdout.readline() == "int\n"
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert observer.marked(mark) == [], err
    assert process.returncode == code, err
    found = read_record(record(person))
    assert found.survivors == ()
    assert found.status.value in ("interrupted", "failed"), found.reason
    (call,) = found.calls
    assert call.outcome is not None and call.outcome.value in ("killed", "unknown")


def test_nothing_outlives_a_program_that_is_killed(person: Person) -> None:
    mark = observer.new_mark()
    process = start(person, "unclosed", mark)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, err
    assert observer.eventually(lambda: not observer.marked(mark), 5)
    report = read_report(record(person))
    assert (report.status, [call.outcome for call in report.calls.values()]) == ("lost", [None])
    os.stat(record(person) / "control")
