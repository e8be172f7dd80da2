"""The command exits at once, and does before what the interpreter would have done."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import atexit, sys
from sandbox_agent.command import command
class Last:
    def __del__(self):
        print("taken apart", flush=True)
last = Last()
atexit.register(print, "at exit", flush=True)
sys.stdout.write("not flushed ")
sys.argv = ["sandbox-agent", *sys.argv[1:]]
command()
"""


def test_what_is_buffered_and_what_atexit_has_is_done_and_the_code_is_kept() -> None:
    argv = [sys.executable, "-c", _PROGRAM, "run", "--no-such-option"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "not flushed at exit\n")
    assert "--no-such-option" in done.stderr
