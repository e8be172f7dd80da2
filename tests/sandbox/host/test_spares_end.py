"""Spares that wait outlive nobody: neither the agent, nor init, nor the sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import observer
import pytest
import spared
from sandbox_agent_sandbox.errors import SandboxBroken
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.inside.walls.landlock import OLDEST, landlock_abi
from sandbox_agent_sandbox.outcome import Outcome, StartedState
from sandbox_agent_sandbox.plan import PlanKind
from sandboxes import command, run, sandbox, until

SUPPORT = Path(__file__).parents[2] / "support"


@pytest.mark.parametrize("stopped", [False, True], ids=["", "stopped"])
@pytest.mark.parametrize("kind", [PlanKind.FULL, PlanKind.NO_NAMESPACES])
def test_no_spare_outlives_an_agent_that_is_killed(
    tmp_path: Path, kind: PlanKind, stopped: bool
) -> None:
    if kind is PlanKind.NO_NAMESPACES and landlock_abi() < OLDEST:
        pytest.skip("needs Landlock")
    tmp_path.chmod(0o777)
    script = Path(__file__).with_name("spared_host.py")
    argv = [sys.executable, str(script), str(tmp_path), kind.value]
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment) as agent:
        assert agent.stdout is not None and agent.stdout.readline() == b"up\n"
        family = observer.descendants(agent.pid)
        assert len([one for one in family if one.name == "sandbox-worker"]) == 3
        assert observer.left_by_killed(agent, family, stopped=stopped) == []
        agent.wait(20)


def _init(cell: Cell) -> int:
    assert cell._supervisor._sandbox._init is not None
    return cell._supervisor._sandbox._init.pid


def _spawner(cell: Cell) -> int:
    assert cell._supervisor._sandbox._launch is not None
    return cell._supervisor._sandbox._launch.pid


@pytest.mark.parametrize("whose", [_init, _spawner])
def test_spares_end_with_the_init_of_their_sandbox(
    tmp_path: Path, whose: Callable[[Cell], int]
) -> None:
    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            spares = await spared.until_waiting(cell)
            family = [observer.look(pid) for one in spares for pid in _pids(one)]
            with observer.watching(filter(None, family)) as handles:
                os.kill(whose(cell), signal.SIGKILL)
                assert observer.wait_gone(handles, 0.25 + observer.patience())[1] == []
                await until(lambda: not cell._supervisor.spares.are_left)
                with pytest.raises(SandboxBroken):
                    await cell.call(command(tmp_path, "touch ran"))

    run(main)
    assert not (tmp_path / "ran").exists()


def _pids(spare: spared.Spare) -> tuple[int, int]:
    return spared.keeper(spare), spared.worker(spare)


def test_a_call_that_adopts_a_spare_as_the_sandbox_dies_is_over_and_not_made_again(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            first, _ = await spared.until_waiting(cell)
            os.kill(spared.worker(first), signal.SIGSTOP)
            call = asyncio.create_task(cell.call(command(tmp_path, "touch ran")))
            await until(lambda: len(cell._supervisor.spares.waiting()) == 1)
            os.kill(_init(cell), signal.SIGKILL)
            result = await call
            assert (result.outcome, result.started) == (Outcome.CRASHED, StartedState.NO)

    run(main)
    assert not (tmp_path / "ran").exists()


def test_a_sandbox_that_is_closed_while_spares_are_made_leaves_none(tmp_path: Path) -> None:
    async def main() -> None:
        for _ in range(8):
            async with sandbox(tmp_path, spares=8) as cell:
                await until(lambda c=cell: c._supervisor.spares.are_left)  # type: ignore[misc]
                family = observer.descendants(os.getpid())
                with observer.watching(family) as handles:
                    assert cell.close() == ()
                    assert observer.wait_gone(handles, 0.05)[1] == []

    run(main)


def test_a_call_that_is_adopted_while_the_sandbox_is_closed_ends(tmp_path: Path) -> None:
    """Whichever comes first, the call ends and is named, and nothing is left open."""

    async def main() -> None:
        for _ in range(6):
            async with sandbox(tmp_path) as cell:
                await spared.until_waiting(cell)
                closing = asyncio.create_task(asyncio.to_thread(cell.close))
                calls = [cell.call(command(tmp_path, "sleep 300")) for _ in range(3)]
                results = await asyncio.gather(*calls, return_exceptions=True)
                assert await closing == ()
                for result in results:
                    assert isinstance(result, Exception) or result.outcome is not Outcome.OK

    run(main)


@contextlib.contextmanager
def stopping(processes: list[observer.Process | None]) -> Iterator[threading.Event]:
    """Stop these again and again, for a tenth of a second after the event."""
    is_closing = threading.Event()

    def strike() -> None:
        is_closing.wait(20)
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            for one in filter(None, processes):
                if observer.look(one.pid) == one:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(one.pid, signal.SIGSTOP)

    striker = threading.Thread(target=strike)
    striker.start()
    yield is_closing
    striker.join()


def test_a_spare_that_is_stopped_again_and_again_ends_with_its_sandbox(tmp_path: Path) -> None:
    """Without namespaces it ends by an order, which it does not follow while it is stopped."""

    async def main() -> None:
        async with sandbox(tmp_path, plan="no_namespaces") as cell:
            spares = await spared.until_waiting(cell)
            keepers = [observer.look(spared.keeper(one)) for one in spares]
            with stopping(keepers) as is_closing:
                begin = time.monotonic()
                is_closing.set()
                assert await asyncio.to_thread(cell.close) == ()
                assert time.monotonic() - begin < 2 * observer.patience()

    run(main)


def test_a_spawner_that_is_stopped_again_and_again_ends_with_its_sandbox(tmp_path: Path) -> None:
    """It is told to end again before the proof is overdue."""

    async def main() -> None:
        async with sandbox(tmp_path, plan="no_namespaces") as cell:
            with stopping([observer.look(_spawner(cell))]) as is_closing:
                begin = time.monotonic()
                is_closing.set()
                assert await asyncio.to_thread(cell.close) == ()
                assert time.monotonic() - begin < 2 * observer.patience()

    run(main)
