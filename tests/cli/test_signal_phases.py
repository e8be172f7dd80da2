"""A signal means one thing before a run, another while its record is begun, and nothing after."""

from __future__ import annotations

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
signals.end()
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    send(number)
print(signals.first, got)
""",
            "None []",
        ),
    ],
    ids=["before", "held", "after"],
)
def test_each_phase(then: str, printed: str) -> None:
    done = subprocess.run([sys.executable, "-c", START + then], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, printed, "")
