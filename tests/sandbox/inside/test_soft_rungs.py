"""The rungs before SIGKILL: their effect on a tool, and what the result says about them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import observer
import pytest
import sandbox_agent
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.messages import FunctionRef
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.host.cell import CallRequest, Cell
from sandbox_agent_sandbox.outcome import CallResult, Outcome, Rung, StartedState
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from sandboxes import SHELL, run, until

PATIENT = 20.0
"""Seconds of a rung that must not be needed."""

Strike = Callable[[Cell, CallRequest], Awaitable[None]]


async def nothing_more(cell: Cell, request: CallRequest) -> None:
    pass


async def all_asleep(cell: Cell, request: CallRequest) -> None:
    """Wait until every process sleeps, so that a signal interrupts it. A tool that has written `up`
    may not sleep yet: Python is before the system call that sleeps, or a shell has yet to fork."""
    await asyncio.to_thread(
        observer.eventually, lambda: {observer.state(one.pid) for one in ours()} == {"S"}, 20
    )


def stop(
    workspace: Path,
    what: str,
    *,
    grace: float,
    term: float = PATIENT,
    up: bytes = b"up",
    strike: Strike = nothing_more,
    before: Strike = nothing_more,
) -> tuple[CallResult, str]:
    """Call a tool of soft_tools (or, with a blank in it, a command), interrupt it once it has
    written `up`, and return its result and all of its output."""

    async def main() -> tuple[CallResult, str]:
        shutil.copy(Path(__file__).with_name("soft_tools.py"), workspace)
        facade = Path(sandbox_agent.__file__).parents[1]
        plan = make_plan(Policy(), host_facts(), workspace=workspace, tool_paths=[facade])
        cell = Cell(plan, grace=grace, term=term)
        await cell.open()
        output = bytearray()
        ready = asyncio.Event()

        def on_output(stream: str, data: bytes) -> None:
            output.extend(data)
            if up in output:
                ready.set()

        function, arguments = FunctionRef("soft_tools", what), {}
        if " " in what:
            function, arguments = SHELL, {"command": what}
        request = CallRequest(
            "call",
            function,
            json.dumps(arguments).encode(),
            str(workspace),
            on_output=on_output,
        )
        token = RunToken()
        try:
            call = asyncio.create_task(cell.call(request, token=token))
            async with asyncio.timeout(20):
                await asyncio.wait(
                    {call, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED
                )
                await before(cell, request)
                token.cancel(CancelReason.INTERRUPT)
                await strike(cell, request)
            return await call, output.decode()
        finally:
            assert cell.close() == ()

    return run(main)


def milliseconds(result: CallResult, since: Rung) -> float:
    return result.rungs_ms["ended"] - result.rungs_ms[since]


# --- the flag -------------------------------------------------------------------------------


def test_a_waiting_tool_wakes_at_the_flag_without_having_polled(tmp_path: Path) -> None:
    async def long_wait(cell: Cell, request: CallRequest) -> None:
        await asyncio.sleep(0.5)  # in which a tool that polls would use the processor

    result, _ = stop(tmp_path, "waits", grace=PATIENT, before=long_wait)
    assert (result.outcome, result.rung) == (Outcome.CANCELLED, Rung.FLAG)
    seen, reason, cpu = result.content.split()
    assert (seen, reason) == ("True", "interrupt")
    assert float(cpu) < 0.05
    assert result.rungs_ms["ended"] < 200


@pytest.mark.parametrize("tool", ["waits_with_timeouts", "polls"])
def test_a_tool_that_looks_now_and_then_sees_the_flag(tmp_path: Path, tool: str) -> None:
    result, _ = stop(tmp_path, tool, grace=PATIENT)
    assert (result.outcome, result.rung, result.content) == (Outcome.CANCELLED, Rung.FLAG, "seen")


def test_raise_if_cancelled_runs_finally_and_is_swallowed_by_no_except_exception(
    tmp_path: Path,
) -> None:
    result, _ = stop(tmp_path, "raises", grace=PATIENT)
    assert (result.outcome, result.rung) == (Outcome.CANCELLED, Rung.FLAG)
    assert cleaned_up(tmp_path)


def test_an_async_tools_task_is_cancelled_at_the_flag(tmp_path: Path) -> None:
    result, _ = stop(tmp_path, "awaits", grace=PATIENT)
    assert (result.outcome, result.rung) == (Outcome.CANCELLED, Rung.FLAG)
    assert cleaned_up(tmp_path)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("echo up; sleep 300", ""),
        ("echo up; exec sleep 300", ""),
        (
            "trap : INT; sleep 300 | (trap '' INT; echo up >&2; cat; echo second ended)",
            "second ended",
        ),
        ("trap : INT; (trap 'echo first' INT; echo up; sleep 300) | (trap '' INT; cat)", "first"),
        (
            "python3 -c 'import time; print(\"up\", flush=True); time.sleep(300)'",
            "KeyboardInterrupt",
        ),
    ],
)
def test_a_commands_whole_process_group_gets_sigint(
    tmp_path: Path, command: str, expected: str
) -> None:
    result, output = stop(tmp_path, command, grace=PATIENT, before=all_asleep)
    assert (result.outcome, result.rung) == (Outcome.CANCELLED, Rung.FLAG)
    for word in ("second ended", "first", "KeyboardInterrupt"):
        assert (word in output) == (word in expected)


def cleaned_up(workspace: Path) -> bool:
    names = {path.name for path in workspace.iterdir()}
    return {"finally", "with"} <= names and "swallowed" not in names


# --- SIGTERM --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tool",
    [
        "sleeps",
        "sleeps_while_another_thread_hears",
        "spins",
        "waits_for_a_socket",
        "waits_for_a_lock",
        "runs_a_command",
        "joins_a_thread",
        "swallows_all_exceptions",
    ],
)
def test_a_python_tool_that_never_looks_is_ended_by_sigterm_and_tidies_up(
    tmp_path: Path, tool: str
) -> None:
    result, _ = stop(tmp_path, tool, grace=0.05)
    assert (result.outcome, result.rung) == (Outcome.CANCELLED, Rung.TERM)
    assert cleaned_up(tmp_path)
    assert milliseconds(result, Rung.TERM) < 500, "50 ms on an idle machine"


@pytest.mark.parametrize("grace", [0.02, 0.3])
def test_sigterm_comes_a_grace_period_after_the_flag(tmp_path: Path, grace: float) -> None:
    result, _ = stop(tmp_path, "sleeps", grace=grace, before=all_asleep)
    assert result.rung is Rung.TERM
    late = result.rungs_ms["term"] - grace * 1000
    assert 0 <= late < 100, "1 ms on an idle machine"


def test_what_takes_its_time_to_tidy_up_gets_it(tmp_path: Path) -> None:
    result, _ = stop(tmp_path, "tidies_up_at_length", grace=0.05)
    assert (result.outcome, result.rung) == (Outcome.CANCELLED, Rung.TERM)
    assert (tmp_path / "tidied").exists()


def test_an_async_tool_that_swallows_its_cancellation_is_ended_by_sigterm(tmp_path: Path) -> None:
    async def once_it_has(cell: Cell, request: CallRequest) -> None:
        await until((tmp_path / "cancelled once").exists)
        cell.escalate()

    result, _ = stop(tmp_path, "swallows_its_cancellation", grace=PATIENT, strike=once_it_has)
    assert (result.outcome, result.rung) == (Outcome.CANCELLED, Rung.TERM)
    assert (tmp_path / "cancelled once").exists()
    assert cleaned_up(tmp_path)


def test_a_stopped_tool_is_continued_so_that_it_can_act_on_sigterm(tmp_path: Path) -> None:
    async def freeze(cell: Cell, request: CallRequest) -> None:
        worker = worker_of_ours()
        os.kill(worker, signal.SIGSTOP)
        await asyncio.to_thread(observer.eventually, lambda: observer.state(worker) == "T", 20)

    result, _ = stop(tmp_path, "sleeps", grace=0.05, before=freeze)
    assert (result.outcome, result.rung) == (Outcome.CANCELLED, Rung.TERM)
    assert cleaned_up(tmp_path)


def test_a_stopped_command_is_continued_so_that_it_can_act_on_sigterm(tmp_path: Path) -> None:
    command = "trap 'touch trapped; exit 5' TERM; trap '' INT; echo up; kill -STOP $$; sleep 300"

    async def stopped(cell: Cell, request: CallRequest) -> None:
        await until(lambda: "T" in {observer.state(one.pid) for one in ours()})

    result, _ = stop(tmp_path, command, grace=0.05, before=stopped)
    assert (result.outcome, result.rung) == (Outcome.CANCELLED, Rung.TERM)
    assert (tmp_path / "trapped").exists()


# --- results ---------------------------------------------------------------------------


def test_output_up_to_the_end_is_kept(tmp_path: Path) -> None:
    command = "trap '' INT; trap 'echo at TERM; exit 5' TERM; echo up; while :; do sleep 0.01; done"
    result, output = stop(tmp_path, command, grace=0.05)
    assert (result.outcome, result.started) == (Outcome.CANCELLED, StartedState.YES)
    assert output.startswith("up\n")
    assert output.endswith("at TERM\n")


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("trap '' INT; trap 'exit 4' TERM; echo up; while :; do sleep 0.01; done", 4),
        ("trap '' INT; trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done", 0),
        ("trap '' INT; echo up; exec sleep 300", -signal.SIGTERM),
    ],
)
def test_a_command_ended_at_sigterm_has_its_exit_status(
    tmp_path: Path, command: str, status: int
) -> None:
    result, _ = stop(tmp_path, command, grace=0.05)
    assert (result.outcome, result.rung) == (Outcome.CANCELLED, Rung.TERM)
    assert result.exit_status == status


def test_a_command_that_ended_before_its_background_was_killed_has_its_exit_status(
    tmp_path: Path,
) -> None:
    background = "(trap '' TERM; echo up; while :; do sleep 0.01; done) &"
    command = f"trap '' INT; trap 'exit 4' TERM; {background} while :; do sleep 0.01; done"
    result, _ = stop(tmp_path, command, grace=0.1, term=0.3)
    assert result.outcome in (Outcome.CANCELLED, Outcome.KILLED)
    assert result.exit_status == 4


def test_a_command_killed_with_its_namespace_has_no_exit_status(tmp_path: Path) -> None:
    command = "trap '' INT TERM; echo up; while :; do sleep 0.01; done"
    result, _ = stop(tmp_path, command, grace=0.05, term=0.05)
    assert (result.outcome, result.rung) == (Outcome.KILLED, Rung.KILL)
    assert result.exit_status is None


def test_a_child_ended_by_somebody_elses_sigterm_during_a_cancel_is_no_crash(
    tmp_path: Path,
) -> None:
    async def terminate_the_child(cell: Cell, request: CallRequest) -> None:
        inside = int((tmp_path / "child").read_text())

        def children() -> list[observer.Process]:
            return [p for p in ours() if p.namespace_pids[-1] == inside and "300" in p.command]

        [child] = observer.eventually(children, 20)  # it may not have called exec yet
        os.kill(child.pid, signal.SIGTERM)

    result, _ = stop(tmp_path, "waits_for_a_child", grace=PATIENT, strike=terminate_the_child)
    assert (result.outcome, result.rung) == (Outcome.CANCELLED, Rung.FLAG)
    assert "my child ended with -15" in result.content


def test_a_worker_ended_by_somebody_elses_sigterm_during_a_cancel_is_cancelled(
    tmp_path: Path,
) -> None:
    async def terminate_everybody(cell: Cell, request: CallRequest) -> None:
        for process in ours():  # as Jenkins and systemd do
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)

    # The call's init sends no pokes after a SIGTERM that is not the host's.
    result, _ = stop(
        tmp_path, "sleeps", grace=PATIENT, before=all_asleep, strike=terminate_everybody
    )
    assert (result.outcome, result.rung) == (Outcome.CANCELLED, Rung.FLAG)
    assert cleaned_up(tmp_path)


def ours() -> list[observer.Process]:
    """The processes of a call, its init left out."""
    below = observer.descendants(os.getpid())
    return [p for p in below if len(p.namespace_pids) >= 3 and p.namespace_pids[-1] != 1]


def worker_of_ours() -> int:
    [worker] = [process.pid for process in ours() if process.namespace_pids[-1] == 2]
    return worker


def test_who_handles_sigterm_has_its_time_though_the_tool_has_answered(tmp_path: Path) -> None:
    result, _ = stop(tmp_path, "leaves_a_child_that_tidies_up", grace=0.1)
    assert (result.outcome, result.rung) == (Outcome.CANCELLED, Rung.TERM)
    assert (tmp_path / "tidied").exists()
