"""A signal means something else before a run, while its record is begun, and after its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

START = """
import os, signal
from sandbox_agent.cli.signals import Signals, Stopped

class NoFreezer:
    freeze = thaw = lambda self: None

def send(number):
    os.kill(os.getpid(), number)

got = []
signals = Signals()
signals.install()
"""


@pytest.mark.parametrize(
    ("then", "printed"),
    [
        (
            """
try:
    send(signal.SIGTERM)
except Stopped as stopped:
    send(signal.SIGINT)  # unwinding: once is enough
    print(stopped.signum, signals.first)
""",
            "15 15",
        ),
        (
            """
signals.hold()
send(signal.SIGHUP)
send(signal.SIGINT)
signals.attach(got.append, NoFreezer())
send(signal.SIGTERM)
print(signals.first, got)
""",
            "1 [1, 15]",
        ),
        (
            """
signals.hold()
signals.attach(got.append, NoFreezer())
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
signals.attach(got.append, NoFreezer())
signals.strike(1)  # HUP: the parent was the first to go
send(signal.SIGTERM)
send(signal.SIGTERM)
print(signals.first, got)
""",
            "1 [1, 15]",
        ),
        (
            """
try:
    send(signal.SIGTERM)
except Stopped:
    pass  # as a destructor swallows it
signals.hold()
signals.attach(got.append, NoFreezer())
signals.strike(1)  # HUP: the parent died of the same, no second order
send(signal.SIGINT)
print(signals.first, got)
""",
            "15 [15, 2]",
        ),
        (
            """
signals.hold()
signals.attach(got.append, NoFreezer())
signals.end()
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    send(number)
print(signals.first, got)
""",
            "None []",
        ),
    ],
    ids=["before", "held", "then the parent", "first the parent", "swallowed", "after"],
)
def test_each_phase(then: str, printed: str) -> None:
    done = subprocess.run([sys.executable, "-c", START + then], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, printed, "")


STOP = """
class Freezer:
    said = []
    def freeze(self):
        self.said.append("freeze")
        send(signal.SIGTSTP)  # a second one, during the freeze
    def thaw(self):
        self.said.append("thaw")

signals.hold()
signals.attach(got.append, Freezer())
for _ in range(2):
    send(signal.SIGTSTP)
print(Freezer.said)
"""


def test_a_second_ctrl_z_during_the_first_one_changes_nothing() -> None:
    command = [sys.executable, "-c", START + STOP]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(2):
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            process.send_signal(signal.SIGCONT)
        out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "['freeze', 'thaw', 'freeze', 'thaw']\n")
