"""A signal means something else before a run, while its record is begun, and after its end.

The main thread of each program blocks in a system call that no signal interrupts: the signals are
blocked there, as in a process whose disk hangs.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

START = """
import os, signal, sys, time
from sandbox_agent.cli.signals import State, Signals

class NoFreezer:
    freeze = thaw = lambda self: None

def send(number):
    before = signals.received
    os.kill(os.getpid(), number)
    while signals.received == before:  # another thread takes it
        time.sleep(0.001)
    signals.catch_up()  # once more there is the lock, so it has been acted on

def note(number):
    got.append(number)
    return True

def hang():
    print("hangs", flush=True)
    os.read(os.pipe()[0], 1)

got = []
signals = Signals()
signals.install()
signals.on_leave = lambda words: os.write(1, b"last words: " + words.encode())
"""


@contextlib.contextmanager
def program(then: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", START + then]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("then", "printed"),
    [
        (
            """
signals.hold()
send(signal.SIGHUP)
send(signal.SIGINT)
print(signals.state is State.WAITING)
signals.attach(note, NoFreezer())
send(signal.SIGTERM)
print(signals.first, got)
""",
            "True\n1 [1, 15]",
        ),
        (
            """
signals.hold()
signals.attach(note, NoFreezer())
send(signal.SIGTERM)
signals.strike(1)  # HUP: the parent died of the same, no second order
send(signal.SIGINT)
print(signals.first, got)
""",
            "15 [15, 2]",
        ),
        (
            """
signals.hold()
signals.attach(note, NoFreezer())
signals.strike(1)  # HUP: the parent was the first to go
send(signal.SIGTERM)
send(signal.SIGTERM)
print(signals.first, got)
""",
            "1 [1, 15]",
        ),
        (
            """
there_is_a_run = False
def interrupt(number):
    got.append(number)
    return there_is_a_run

signals.hold()
signals.attach(interrupt, NoFreezer())
send(signal.SIGTERM)
there_is_a_run = True
got.clear()
signals.catch_up()
signals.catch_up()
send(signal.SIGINT)
print(signals.first, got)
""",
            "15 [15, 2]",
        ),
        (
            """
signals.hold()
signals.attach(note, NoFreezer())
signals.end(3)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    send(number)
print(signals.first, got, signals.late, signals.state is State.HURRIED)
signals.end(4)
signals.close()
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    os.kill(os.getpid(), number)
""",
            "None [] 2 True",
        ),
    ],
    ids=["held", "then the parent", "first the parent", "no run yet", "after"],
)
def test_each_phase(then: str, printed: str) -> None:
    with program(then) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out.strip(), err) == (0, printed, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_before_a_run_a_signal_ends_a_command_that_hangs(number: int) -> None:
    with program("hang()") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hangs\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (128 + number, "last words: ", "")


def test_an_insisting_signal_ends_a_command_whose_record_cannot_be_begun() -> None:
    with program("signals.hold(); hang()") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hangs\n"
        begun = time.monotonic()
        while process.poll() is None and time.monotonic() < begun + 30:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        took = time.monotonic() - begun
        assert process.returncode == 143
    assert took > 0.9  # what comes at once is the same event


@pytest.mark.parametrize(("known", "code"), [(3, 3), (0, 130)])
def test_after_the_end_a_signal_ends_a_command_that_hangs(known: int, code: int) -> None:
    """As it would have ended, but a success that could not be said in full is none."""
    with program(f"signals.end({known}); hang()") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hangs\n"
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        took = time.monotonic() - begun
    assert (process.returncode, out, err) == (
        code,
        "last words: SIGINT ended the command before all was said",
        "",
    )
    assert took < 5


def test_helper_processes_end_with_the_command_and_are_deaf_to_no_signal() -> None:
    then = """
import subprocess
from sandbox_agent.cli.signals import nothing_blocked
told = "while read -r line; do echo $line; done < /proc/self/status"  # by itself, not a child
with nothing_blocked():
    helper = subprocess.Popen(["sh", "-c", told + "; echo pid: $$; exec sleep 600"])
os.read(os.pipe()[0], 1)
"""
    with program(then) as process:
        assert process.stdout is not None
        told = dict[str, str]()
        while "pid" not in told:
            name, _, value = process.stdout.readline().partition(":")
            told[name] = value.strip()
        helper = os.pidfd_open(int(told["pid"]))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
        process.communicate()
    try:
        poller = select.poll()
        poller.register(helper, select.POLLIN)
        assert poller.poll(30_000)
    finally:
        os.close(helper)
    assert int(told["SigBlk"], 16) == 0
    assert int(told["SigIgn"], 16) & ~(3 << 31) == 0  # 32 and 33 are glibc's own


STOP = """
class Freezer:
    said = []
    def freeze(self):
        self.said.append("freeze")
        os.kill(os.getpid(), signal.SIGTSTP)  # a second one, during the freeze
    def thaw(self):
        self.said.append("thaw")

signals.hold()
signals.attach(note, Freezer())
for n in range(2):
    os.kill(os.getpid(), signal.SIGTSTP)
    while len(Freezer.said) < 2 * n + 2:
        time.sleep(0.001)
signals.end(0)
print(Freezer.said)
"""


def test_a_second_ctrl_z_during_the_first_one_changes_nothing() -> None:
    with program(STOP) as process:
        for _ in range(2):
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            process.send_signal(signal.SIGCONT)
        out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "['freeze', 'thaw', 'freeze', 'thaw']\n")


def test_ctrl_z_before_a_run_and_after_its_end_stops_the_command() -> None:
    with program("hang()") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hangs\n"
        process.send_signal(signal.SIGTSTP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
