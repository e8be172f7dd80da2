"""mini-swe-agent's environment on ours: its agent, its tests, and what its own cannot do."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import observer
import peer_programs
import pytest

pytest.importorskip("minisweagent", reason="needs mini-swe-agent; tests/peers/run installs it")

from mini_environment import SandboxAgentEnvironment
from minisweagent.exceptions import Submitted

HERE = Path(__file__).parent
THEIR_TESTS = os.environ.get("MINI_SWE_AGENT_TESTS")
DANGEROUS = "test_local_environment_timeout_kills_child_process"
"""It signals a number that a process has inside the sandbox. Outside, that is another process. The
test of our own below shows the same from outside."""


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Any]:
    with SandboxAgentEnvironment(cwd=str(tmp_path), timeout=60, env={"GIVEN": "given"}) as one:
        yield one


def test_commands_run_in_the_folder_with_the_given_variables(environment: Any) -> None:
    done = environment.execute({"command": "echo $GIVEN > a; cat a; echo err >&2; exit 42"})
    assert done == {"output": "given\nerr\n", "returncode": 42, "exception_info": ""}


def test_variables_of_the_program_are_passed_only_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANTED", "yes")
    monkeypatch.setenv("MY_API_KEY", "secret")
    with SandboxAgentEnvironment(cwd=str(tmp_path), inherit=["WANTED"]) as environment:
        done = environment.execute({"command": 'echo "$WANTED $MY_API_KEY."'})
    assert done["output"] == "yes .\n"


def test_a_command_over_its_time_ends_with_all_that_it_started(environment: Any) -> None:
    mark = observer.new_mark()
    command = f"echo begun; {peer_programs.four_sleeps(mark)}"
    done = environment.execute({"command": command}, timeout=1)
    assert (done["returncode"], done["output"]) == (-1, "begun\n")
    assert done["extra"]["exception_type"] == "TimeoutExpired"
    assert observer.marked(mark) == []


def test_the_end_of_a_task_is_seen(environment: Any) -> None:
    with pytest.raises(Submitted):
        environment.execute({"command": "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; echo patch"})


def test_their_agent_runs_on_it(tmp_path: Path) -> None:
    with peer_programs.start("mini_program.py", "echo total 42 > out.txt", tmp_path) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "'exit_status': 'Submitted'" in said
    assert "total 42" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_their_agent_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    left, said = peer_programs.strike("mini_program.py", tmp_path, number)
    assert left == [], said


@pytest.mark.skipif(
    THEIR_TESTS is None, reason="needs mini-swe-agent's tests, which its packages do not hold"
)
def test_their_own_tests_pass_but_for_the_one_that_signals_by_number(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "mini_plugin",
         "--deselect", f"test_local.py::{DANGEROUS}", "test_local.py"],
        cwd=str(THEIR_TESTS),
        env={**os.environ, "PYTHONPATH": str(HERE), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) >= 19, done.stdout
