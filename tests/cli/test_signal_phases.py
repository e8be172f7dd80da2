"""A signal means one thing before a run, another while its record is begun, and nothing after."""

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
signals.attach(got.append, NoFreezer())
signals.end()
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    send(number)
print(signals.first, got)
""",
            "None []",
        ),
    ],
    ids=["before", "held", "then the parent", "first the parent", "after"],
)
def test_each_phase(then: str, printed: str) -> None:
    done = subprocess.run([sys.executable, "-c", START + then], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, printed, "")


STOP = """
class Freezer:
    said = []
    def freeze(self):
        self.said.append("freeze")
        send(signal.SIGTSTP)  # a second one, while the first is heeded
    def thaw(self):
        self.said.append("thaw")

signals.attach(got.append, Freezer())
for _ in range(2):
    send(signal.SIGTSTP)
print(Freezer.said)
"""


def test_a_second_ctrl_z_while_the_first_is_heeded_is_the_same() -> None:
    command = [sys.executable, "-c", START + STOP]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(2):
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            process.send_signal(signal.SIGCONT)
        out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "['freeze', 'thaw', 'freeze', 'thaw']\n")
