"""A tool in a real sandbox, with a token that the test controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import observer
import pytest
from sandbox_agent import CancelReason, ConfigError
from sandbox_agent.testing import run_tool, start_tool

TOOLS = '''
import subprocess
import time

from sandbox_agent import CancelToken


def wait(seconds: float, token: CancelToken) -> str:
    """Waits, and heeds the token."""
    print("waiting", flush=True)
    return f"cancelled: {token.reason}" if token.wait(seconds) else "waited"


def deaf(mark: str) -> None:
    """Ends neither at the flag nor at SIGTERM."""
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", f"300.{mark}"], start_new_session=True)
    print("up", flush=True)
    while True:
        time.sleep(1)
'''


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "mytools.py").write_text(TOOLS)
    return tmp_path


def test_a_tool_runs_and_says_what_it_returned_and_printed(workspace: Path) -> None:
    result = run_tool("mytools:wait", {"seconds": 0.01}, workspace=workspace)
    assert (result.outcome, result.content, result.stdout) == ("ok", "waited", b"waiting\n")
    assert (result.rung, result.rungs_ms, result.survivors) == (None, {}, ())


def test_the_test_cancels_the_token_and_the_tool_sees_it(workspace: Path) -> None:
    with start_tool("mytools:wait", {"seconds": 600}, workspace=workspace) as call:
        call.wait_started()
        call.wait_for_output("waiting")
        assert not call.token.is_cancelled
        assert call.cancel(CancelReason.BUDGET)
        assert not call.cancel()
        result = call.result(60)
    assert (result.outcome, result.content) == ("cancelled", "cancelled: budget")
    assert (result.rung, set(result.rungs_ms)) == ("flag", {"flag", "ended"})


def test_a_tool_that_does_not_end_is_ended_by_its_time(workspace: Path) -> None:
    mark = observer.new_mark()
    result = run_tool(
        "mytools:deaf", {"mark": mark}, workspace=workspace, timeout=1, interrupt=(0.1, 0.1)
    )
    assert (result.outcome, result.rung) == ("timeout", "kill")
    assert observer.marked(mark) == []


def test_leaving_the_block_stops_what_is_going(workspace: Path) -> None:
    mark = observer.new_mark()
    with start_tool("mytools:deaf", {"mark": mark}, workspace=workspace) as call:
        call.wait_for_output("up")
        with pytest.raises(TimeoutError, match="not over after 0 s"):
            call.result(0)
    assert observer.marked(mark) == []
    assert call.result().outcome == "killed"
    assert call.close() == ()


def test_a_second_step_skips_the_grace_period(workspace: Path) -> None:
    slow = {"workspace": workspace, "interrupt": (600, 0.1)}
    with start_tool("mytools:deaf", {"mark": observer.new_mark()}, **slow) as call:
        call.wait_for_output("up")
        call.cancel()
        call.hurry()
        assert call.result(60).outcome == "killed"


def test_built_in_tools_run_by_name(workspace: Path) -> None:
    assert run_tool("shell", {"command": "echo $((6 * 7))"}, workspace=workspace).stdout == b"42\n"
    written = run_tool("write_file", {"path": "a.txt", "content": "hello"}, workspace=workspace)
    assert written.outcome == "ok"
    assert (workspace / "a.txt").read_text() == "hello"


def test_the_policy_holds(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    beside = tmp_path_factory.mktemp("beside") / "file"
    beside.write_text("here\n")
    command = {"command": f"cat {beside}"}
    assert run_tool("shell", command, workspace=workspace).exit_status == 1
    policy = {"read": [str(beside)]}
    shown = run_tool("shell", command, workspace=workspace, sandbox=policy)
    assert shown.stdout == b"here\n"
    limited = {"limits": {"timeout": 0.2}}
    sleeping = run_tool("shell", {"command": "sleep 600"}, workspace=workspace, sandbox=limited)
    assert sleeping.outcome == "timeout"


def test_waiting_for_what_does_not_come_ends_with_the_call(workspace: Path) -> None:
    with start_tool("mytools:wait", {"seconds": 0.01}, workspace=workspace) as call:
        with pytest.raises(AssertionError, match="ended before the tool has printed 'never'"):
            call.wait_for_output("never")
        assert call.result().outcome == "ok"
    late = pytest.raises(TimeoutError, match="'never'")
    with start_tool("mytools:wait", {"seconds": 600}, workspace=workspace) as call, late:
        call.wait_for_output("never", timeout=0.01)


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        (lambda: None, {}, "no name at the top"),
        ("shell", {"command": object()}, "no arguments of a call"),
        ("shell", {"command": float("nan")}, "no arguments of a call"),
    ],
)
def test_what_is_no_call_is_refused_before_anything_starts(
    workspace: Path, function: Any, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        start_tool(function, arguments, workspace=workspace)


@pytest.mark.parametrize(
    ("function", "words"),
    [("mytools:nothing", "nothing"), ("reed_file", "read_file"), ("files", "no tool")],
)
def test_a_tool_that_is_not_there_is_an_error_of_the_result(
    workspace: Path, function: str, words: str
) -> None:
    with start_tool(function, workspace=workspace) as call:
        with pytest.raises(AssertionError, match="ended before"):
            call.wait_started()
        with pytest.raises(ConfigError, match=words):
            call.result()
