"""A sandbox whose first process is started before there is a plan: whatever happens until there is
one, nothing stays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import observer
import pytest
from sandbox_agent_sandbox.errors import CellClosed, SandboxUnavailable
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.host.deadlines import Deadlines
from sandbox_agent_sandbox.host.sandbox_state import State
from sandbox_agent_sandbox.inside.walls.landlock import OLDEST, landlock_abi
from sandbox_agent_sandbox.outcome import Outcome
from sandbox_agent_sandbox.plan import Plan, PlanKind
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from sandboxes import command, run, until

QUICK = 2.0
"""Seconds for an end that waits for nothing: nowhere near the limits for proofs and building."""


@pytest.fixture(params=[PlanKind.FULL, PlanKind.NO_NAMESPACES])
def plan(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Plan]:
    if request.param is PlanKind.NO_NAMESPACES and landlock_abi() < OLDEST:
        pytest.skip("needs Landlock")
    tmp_path.chmod(0o777)
    policy = Policy(plan=request.param.value)
    yield make_plan(policy, host_facts(), workspace=tmp_path, kind=request.param)


def started(deadlines: Deadlines | None = None) -> Cell:
    cell = Cell(grace=0.1, term=0.1, deadlines=deadlines or Deadlines())
    cell.start()
    return cell


def below(pid: int | None = None) -> list[observer.Process]:
    return observer.descendants(pid or os.getpid())


def waiting(pid: int | None = None) -> int:
    """The spawner, once it is one: setpriv(1) and the interpreter's start come before."""
    return next((one.pid for one in below(pid) if one.name == "sandbox-spawner"), 0)


def gone_soon() -> bool:
    """Whether nothing is left. A process that the spawner was starting as it was killed reads an
    end of file, and exits by itself."""
    with observer.watching(below()) as handles:
        return observer.wait_gone(handles, 0.25 * observer.patience())[1] == []


async def until_waiting() -> int:
    await until(lambda: bool(waiting()))
    return waiting()


def test_a_started_sandbox_builds_whatever_plan_comes(tmp_path: Path, plan: Plan) -> None:
    async def main() -> None:
        cell = started()
        try:
            cell.start()  # again
            spawner = await until_waiting()
            cell.set_plan(plan)
            await cell.open()
            assert waiting() == spawner
            result = await cell.call(command(tmp_path, "echo here"))
            assert (result.outcome, result.output) == (Outcome.OK, "here\n")
        finally:
            assert cell.close() == ()

    run(main)
    assert below() == []


@pytest.mark.parametrize("when", ["at once", "as it begins", "as it waits"])
def test_a_sandbox_that_is_closed_before_it_has_a_plan_leaves_nothing(when: str) -> None:
    cell = started()
    if when == "as it begins":
        observer.eventually(below, 20)
    elif when == "as it waits":
        observer.eventually(waiting, 20)
    begin = time.monotonic()
    assert cell.close() == ()
    assert time.monotonic() - begin < QUICK * observer.patience()
    assert below() == []
    cell.start()  # it is closed for good
    assert below() == []


def test_a_sandbox_that_is_closed_as_its_plan_arrives_leaves_nothing(plan: Plan) -> None:
    async def main() -> None:
        cell = started()
        await until_waiting()
        cell.set_plan(plan)
        opening = asyncio.create_task(cell.open())
        await asyncio.sleep(0)  # the plan is on its way
        assert await asyncio.to_thread(cell.close) == ()
        with contextlib.suppress(SandboxUnavailable):  # on a busy machine it is built before
            await opening
        assert not cell.usable

    run(main)
    assert gone_soon()


def test_a_sandbox_that_is_closed_as_it_is_built_is_not_open_and_keeps_no_descriptor(
    plan: Plan,
) -> None:
    """Its last message has come, and `open` has not gone on yet."""

    async def main() -> None:
        before = set(os.listdir("/proc/self/fd"))
        cell = Cell(plan, grace=0.1, term=0.1)
        opening = asyncio.create_task(cell.open())
        await asyncio.sleep(0)
        state = cell._supervisor._sandbox.state
        observer.eventually(lambda: state.state is State.OPEN, 20)  # the loop stands still
        assert cell.close() == ()
        with pytest.raises(SandboxUnavailable, match="closed meanwhile"):
            await opening
        assert not cell.usable
        assert set(os.listdir("/proc/self/fd")) <= before

    run(main)


def test_an_opening_that_is_cancelled_leaves_nothing_once_it_is_closed(plan: Plan) -> None:
    async def main() -> None:
        cell = started()
        cell.set_plan(plan)
        opening = asyncio.create_task(cell.open())
        await until_waiting()
        opening.cancel()
        await asyncio.wait({opening})
        assert opening.cancelled() or opening.exception() is None
        assert cell.close() == ()

    run(main)
    assert gone_soon()


@pytest.mark.parametrize("seen", [True, False], ids=["and seen to be", "as the plan comes"])
def test_a_spawner_that_is_killed_while_it_waits_is_said_to_be(plan: Plan, seen: bool) -> None:
    async def main() -> str:
        cell = started()
        spawner = await until_waiting()
        with observer.watching(below()) as handles:
            os.kill(spawner, signal.SIGKILL)
            observer.wait_gone(handles, 20)
        if seen:
            await until(lambda: cell._supervisor.failure is not None)
        cell.set_plan(plan)
        with pytest.raises(SandboxUnavailable) as error:
            await cell.open()
        assert cell.close() == ()
        return str(error.value)

    # Its end of the socket is closed before it can be waited for, which says by what it ended.
    assert "the sandbox's spawner " in run(main)
    assert below() == []


def test_a_stopped_spawner_delays_no_close() -> None:
    async def main() -> float:
        cell = started()
        os.kill(await until_waiting(), signal.SIGSTOP)
        begin = time.monotonic()
        assert await asyncio.to_thread(cell.close) == ()
        return time.monotonic() - begin

    assert run(main) < QUICK * observer.patience()
    assert below() == []


def test_a_stopped_spawner_that_gets_a_plan_fails_when_the_time_for_building_is_over(
    plan: Plan,
) -> None:
    async def main() -> None:
        cell = started(Deadlines(open=0.3))
        os.kill(await until_waiting(), signal.SIGSTOP)
        cell.set_plan(plan)
        with pytest.raises(SandboxUnavailable, match="took over"):
            async with asyncio.timeout(20):
                await cell.open()
        assert cell.close() == ()

    run(main)
    assert gone_soon()


def test_the_time_for_building_begins_with_the_plan(tmp_path: Path, plan: Plan) -> None:
    async def main() -> None:
        cell = started(Deadlines(open=5.0 * observer.patience()))
        try:
            await until_waiting()
            assert cell._supervisor._sandbox.state.deadline == float("inf")
            cell.set_plan(plan)
            await cell.open()
        finally:
            assert cell.close() == ()

    run(main)


def test_a_sandbox_that_is_frozen_before_it_has_a_plan_is_frozen_when_it_is_built(
    tmp_path: Path, plan: Plan
) -> None:
    async def main() -> None:
        cell = started()
        try:
            await until_waiting()
            assert cell.freeze()  # there is nothing to stop yet
            cell.set_plan(plan)
            await cell.open()
            call = asyncio.create_task(cell.call(command(tmp_path, "touch up")))
            frozen = await asyncio.to_thread(cell.freeze, 10)  # init has read the first one by now
            assert frozen and not (tmp_path / "up").exists() and not call.done()
            cell.thaw()
            assert (await call).outcome is Outcome.OK
        finally:
            assert cell.close() == ()

    run(main)


def test_a_sandbox_that_is_thawed_before_it_has_a_plan_is_not_frozen(
    tmp_path: Path, plan: Plan
) -> None:
    async def main() -> None:
        cell = started()
        try:
            assert cell.freeze()
            cell.thaw()
            cell.set_plan(plan)
            await cell.open()
            assert (await cell.call(command(tmp_path, "true"))).outcome is Outcome.OK
        finally:
            assert cell.close() == ()

    run(main)


def test_a_sandbox_without_a_plan_cannot_be_opened_and_takes_no_call(tmp_path: Path) -> None:
    async def main() -> None:
        cell = started()
        with pytest.raises(CellClosed, match="no plan"):
            await cell.open()
        with pytest.raises(CellClosed):
            await cell.call(command(tmp_path, "true"))
        assert cell.close() == ()

    run(main)
    assert below() == []


@pytest.mark.parametrize("stopped", [False, True], ids=["", "stopped"])
@pytest.mark.parametrize("when", ["before the plan", "as the plan comes", "open"])
@pytest.mark.parametrize("kind", [PlanKind.FULL, PlanKind.NO_NAMESPACES])
def test_nothing_outlives_an_agent_that_is_killed(
    tmp_path: Path, kind: PlanKind, when: str, stopped: bool
) -> None:
    if kind is PlanKind.NO_NAMESPACES and landlock_abi() < OLDEST:
        pytest.skip("needs Landlock")
    tmp_path.chmod(0o777)
    script = Path(__file__).with_name("early_host.py")
    argv = [sys.executable, str(script), str(tmp_path), kind.value, when]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None and agent.stdout.readline() == b"up\n"
        # Between fork and exec nothing ties a spawner to its host, and stopped there it stays.
        observer.eventually(lambda: waiting(agent.pid), 20)
        family = below(agent.pid)
        assert observer.left_by_killed(agent, family, stopped=stopped) == []
        agent.wait(20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_of_a_job_does_not_end_a_spawner_that_waits(
    tmp_path: Path, plan: Plan, number: int
) -> None:
    """The ladder decides when work ends."""

    async def main() -> None:
        cell = started()
        try:
            os.kill(await until_waiting(), number)
            cell.set_plan(plan)
            await cell.open()
            assert (await cell.call(command(tmp_path, "true"))).outcome is Outcome.OK
        finally:
            assert cell.close() == ()

    run(main)
