"""The command exits at once, and does before what the interpreter would have done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.journal.status import Status
from sandbox_agent_sandbox.limits.places import find_places

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


_STRUCK_LATE = """
import importlib.machinery, os, signal, sys, threading
from sandbox_agent.command import command
from sandbox_agent.cli import signals
signals._CHILDREN_SECONDS = 120.0
class Strike:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, cls) if name == sys.orig_argv[3] else None
    @staticmethod
    def create_module(spec):
        return None
    @staticmethod
    def exec_module(module):
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait()
sys.meta_path.insert(0, Strike)
sys.argv = ["sandbox-agent", *sys.argv[2:]]
command()
"""


@pytest.mark.parametrize("module", ["exec", "exec_run"], ids=["not taken", "taken"])
def test_before_a_run_an_interrupt_waits_for_no_spawner(module: str, tmp_path: Path) -> None:
    """It ignores SIGTERM, with which helpers such as git are ended, and ends with the command."""
    argv = [sys.executable, "-c", _STRUCK_LATE, f"sandbox_agent.cli.verbs.{module}"]
    argv += ["exec", "--", "true"]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path
    ) as agent:
        said, _ = agent.communicate(timeout=60)
        assert (agent.returncode, said) == (130, "")
    # Of a sandbox that was being built, nothing is left either.
    places = find_places()
    for place in () if places is None else {places.memory, places.processes}:
        assert not [name for name in os.listdir(place) if f"-{agent.pid}-" in name]


_STRUCK_AT_THE_END = """
import os, signal, sys, threading
from sandbox_agent.command import command
from sandbox_agent.lone.lone_run import LoneRun
take_turn = LoneRun._take_turn
def take_turn_and_strike(self, record, number, *more, **options):
    take_turn(self, record, number, *more, **options)
    if options.get("final"):
        stopped = threading.Event()
        self.token.add_callback(stopped.set)
        os.kill(os.getpid(), signal.SIGHUP)
        assert stopped.wait(60)
LoneRun._take_turn = take_turn_and_strike
sys.argv = ["sandbox-agent", *sys.argv[1:]]
command()
"""


def test_a_signal_just_after_the_commands_own_end_has_one_code_here_and_in_the_record(
    tmp_path: Path,
) -> None:
    argv = [sys.executable, "-c", _STRUCK_AT_THE_END, "exec", "--out", tmp_path / "runs"]
    argv += ["--", "sh", "-c", "echo said"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (129, "said\n", "")
    [folder] = [one for one in (tmp_path / "runs").iterdir() if one.is_dir()]
    record = read_record(folder)
    assert (record.status, record.exit_code) == (Status.INTERRUPTED, 129)


_STRUCK = """
import os, signal, sys
from sandbox_agent.command import command
class Strike:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "sandbox_agent.cli.signals":
            os.kill(os.getpid(), getattr(signal, sys.orig_argv[3]))
sys.meta_path.insert(0, Strike)
sys.argv = ["sandbox-agent", *sys.argv[2:]]
command()
"""


@pytest.mark.parametrize("verb", [["exec", "--", "true"], ["--help"]], ids=["exec", "help"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_while_the_first_modules_are_imported_ends_it_without_a_traceback(
    name: str, verb: list[str], tmp_path: Path
) -> None:
    argv = [sys.executable, "-c", _STRUCK, name, *verb]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    # What takes no time, such as --help, may be done before the signal is seen.
    assert (done.returncode, done.stderr) == (128 + getattr(signal, name), "")
