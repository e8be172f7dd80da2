"""A scripted agent with real tools, run and interrupted by a test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import observer
import pytest
from sandbox_agent import ConfigError, ScriptedModel, StateError
from sandbox_agent.testing import AgentRun
from talking import FINAL, shell, sleeper

WRITE = [
    {"calls": [{"shell": {"command": "echo total 42 > report.txt"}}]},
    {"calls": [{"read_file": {"path": "report.txt"}}], "expect": ["total 42"]},
    {"final": "The report is written."},
]


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[AgentRun]:
    with AgentRun(tmp_path) as run:
        yield run


def test_a_run_tells_its_status_calls_and_files(agents: AgentRun) -> None:
    result = agents(WRITE)
    assert (result.status, result.exit_code) == ("done", 0)
    assert result.message == "The report is written."
    assert result.outcomes() == ["ok", "ok"]
    assert [call.tool for call in result.calls] == ["shell", "read_file"]
    assert "total 42" in result.calls[1].text
    assert (agents.workspace / "report.txt").read_text() == "total 42\n"
    assert result.report.status == "done"


def test_two_runs_of_one_test_have_a_record_each(agents: AgentRun) -> None:
    first, second = agents(WRITE), agents([shell("false"), FINAL])
    assert first.run.run_dir != second.run.run_dir
    assert second.outcomes() == ["error"]
    assert second.calls[0].exit_status == 1
    assert agents.results == [first, second]


def test_steps_may_be_a_file_or_a_model(agents: AgentRun, tmp_path: Path) -> None:
    steps = tmp_path / "mine.yaml"
    steps.write_text("- final: from a file\n")
    assert agents(steps).message == "from a file"
    assert agents(ScriptedModel([FINAL])).message == "Done."


def test_a_run_is_interrupted_where_the_test_says(agents: AgentRun) -> None:
    mark = observer.new_mark()
    with agents.start([shell(f"trap '' INT TERM; {sleeper(mark)} & wait; wait"), FINAL]) as run:
        call = run.wait_for_call("shell")
        assert run.wait_for_output("up") == call
        assert observer.marked(mark)
        run.interrupt()
        run.interrupt()
        result = run.result()
    assert (result.status, result.outcomes()) == ("interrupted", ["killed"])
    assert observer.marked(mark) == []
    assert agents.results == [result]


def test_one_call_is_cancelled_alone(agents: AgentRun) -> None:
    mark = observer.new_mark()
    with agents.start([shell(sleeper(mark), "echo other"), FINAL]) as run:
        assert run.cancel_call(run.wait_for_output("up"))
        result = run.result()
    assert (result.status, sorted(result.outcomes())) == ("done", ["cancelled", "ok"])


def test_a_run_that_does_not_end_is_ended_by_its_time(agents: AgentRun) -> None:
    mark = observer.new_mark()
    result = agents([shell(sleeper(mark)), FINAL], budgets={"time": 1})
    assert (result.status, result.exit_code) == ("budget", 3)
    assert observer.marked(mark) == []


def test_a_limit_of_one_kind_keeps_the_limit_of_time(agents: AgentRun) -> None:
    result = agents([shell("echo 1"), FINAL], budgets={"turns": 1})
    (opened,) = (event for event in result.events if event.__class__.__name__ == "SegmentStarted")
    budgets = opened.settings.task["budgets"]  # type: ignore[union-attr]
    assert (result.status, budgets["time"], budgets["turns"]) == ("budget", 60, 1)


def test_closing_stops_what_still_runs(tmp_path: Path) -> None:
    mark = observer.new_mark()
    with AgentRun(tmp_path, interrupt=(600, 600)) as agents:
        run = agents.start([shell(sleeper(mark)), FINAL])
        run.wait_for_output("up")
        call = agents.start_tool("shell", {"command": sleeper(mark)})
        call.wait_for_output("up")
        with pytest.raises(TimeoutError, match="call_1_1 shell"):
            run.result(0.01)
        assert len(observer.marked(mark)) == 2
    assert observer.marked(mark) == []
    assert run.result().status == "interrupted"


def test_waiting_says_why_it_was_in_vain(agents: AgentRun) -> None:
    early = pytest.raises(AssertionError, match="ended before a call of shell has started: done")
    with agents.start([FINAL]) as run, early:
        run.wait_for_call("shell")
    late = pytest.raises(TimeoutError, match=r"not after 0\.01 s: a call has printed 'never'")
    with agents.start([shell("sleep 600"), FINAL]) as run, late:
        run.wait_for_output("never", timeout=0.01)


def test_it_runs_in_an_event_loop(agents: AgentRun) -> None:
    async def main() -> None:
        result = await agents.arun(WRITE)
        assert result.outcomes() == ["ok", "ok"]
        with pytest.raises(StateError, match="await arun"):
            agents(WRITE)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await agents.arun([shell("sleep 600"), FINAL])

    asyncio.run(main())


def test_the_tests_own_callbacks_are_called_too(agents: AgentRun) -> None:
    seen: list[Any] = []
    result = agents(
        [shell("echo hello"), FINAL],
        on_event=seen.append,
        on_output=lambda call, stream, data: seen.append(data),
    )
    assert b"hello\n" in seen
    assert set(map(repr, result.events)) <= set(map(repr, seen))


@pytest.mark.parametrize(
    ("steps", "error", "words"),
    [
        ([{"cals": []}], ConfigError, r"steps-1.yaml:1.*unknown field 'cals'"),
        ([{"calls": [object()]}], ConfigError, "no plain data"),
        ([{"final": "done"}, FINAL], ConfigError, "list of Step objects"),
        ("missing.yaml", ConfigError, "no such file"),
    ],
)
def test_wrong_steps_are_named_with_their_place(
    agents: AgentRun, steps: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        agents(steps)


def test_an_option_that_is_not_known_is_refused(agents: AgentRun) -> None:
    with pytest.raises(TypeError, match="tols"):
        agents(WRITE, tols=["shell"])
