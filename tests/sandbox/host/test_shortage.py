"""A host without a free descriptor says so, starts nothing by halves, and still stops what runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import observer
import pytest
import spared
from sandbox_agent_ipc.board import Board
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.errors import IpcError
from sandbox_agent_sandbox.errors import SandboxUnavailable
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.host.deadlines import Deadlines
from sandbox_agent_sandbox.host.disk import sandbox_disk
from sandbox_agent_sandbox.host.sandbox_state import State
from sandbox_agent_sandbox.host.supervisor import Supervisor
from sandbox_agent_sandbox.outcome import CallResult, Outcome, Rung, StartedState
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from sandboxes import command, run, sandbox, until


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """This process can open so many descriptors, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    with contextlib.ExitStack() as holes:
        while (fd := os.open(os.devnull, os.O_RDONLY)) < highest:
            holes.callback(os.close, fd)
        os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (fd + count, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_sandbox_without_a_thread_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    """No memory for a thread's stack: pthread_create(3) fails with EAGAIN, as for pids.max."""
    plan = make_plan(Policy(), host_facts(), workspace=tmp_path)
    before = threading.stack_size(1 << 40)

    async def main() -> None:
        cell = Cell(plan, grace=0.1, term=0.1)
        try:
            await cell.open()
        finally:
            assert cell.close() == ()

    try:
        with pytest.raises(SandboxUnavailable, match=r"processes or threads.*; hint: .*ulimit -u"):
            run(main)
    finally:
        threading.stack_size(before)


def test_a_sandbox_whose_disk_cannot_be_watched_is_closed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread has begun to look for what others left, so none is waited for."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "sandbox-agent disk":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(sandbox_disk, "_SWEEP", 10_000.0)

    async def main() -> None:
        async with sandbox(tmp_path):
            pass

    with pytest.raises(SandboxUnavailable, match=r"processes or threads can be started.*ulimit -u"):
        run(main)


def test_a_sandbox_whose_thread_ends_without_a_word_says_that_nobody_builds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one can that finds no memory to say so."""
    plan = make_plan(Policy(), host_facts(), workspace=tmp_path)
    monkeypatch.setattr(Supervisor, "_main", lambda self: self._told.set())

    async def main() -> None:
        cell = Cell(plan, grace=0.1, term=0.1, deadlines=Deadlines(open=0.1))
        try:
            await cell.open()
        finally:
            assert cell.close() == ()

    with pytest.raises(SandboxUnavailable, match="the thread that builds it has ended; hint: "):
        run(main)


def test_a_board_that_cannot_be_made_names_the_hint_and_no_other() -> None:
    with descriptors_left(0), pytest.raises(IpcError, match="ulimit -n") as caught:
        Board()
    assert "Linux" not in str(caught.value)


def test_a_sandbox_that_cannot_be_built_says_what_is_missing(tmp_path: Path) -> None:
    plan = make_plan(Policy(), host_facts(), workspace=tmp_path)

    async def main(count: int) -> None:
        with descriptors_left(count):
            cell = Cell(plan, grace=0.1, term=0.1)
            try:
                await cell.open()
            finally:
                cell.close()

    for count in range(10):
        with pytest.raises(SandboxUnavailable, match=r"too many open files.*ulimit -n"):
            run(lambda count=count: main(count))  # type: ignore[misc]


@pytest.mark.parametrize("left", [0, 1])
def test_an_init_that_the_host_cannot_take_is_told_as_a_shortage(tmp_path: Path, left: int) -> None:
    """Its pidfd, or the descriptor of /tmp that comes with it, is lost on the way."""

    async def main() -> None:
        plan = make_plan(Policy(), host_facts(), workspace=tmp_path)
        cell = Cell(plan, grace=0.1, term=0.1)
        cell.start()
        try:
            built = cell._supervisor._sandbox
            await until(lambda: built.state.state is State.WAITING)
            spawner = built._launch
            assert spawner is not None
            signal.pidfd_send_signal(spawner.pidfd, signal.SIGSTOP)
            opening = asyncio.create_task(cell.open())
            await until(lambda: built.state.state is State.BUILDING)
            with descriptors_left(left):
                signal.pidfd_send_signal(spawner.pidfd, signal.SIGCONT)
                await opening
        finally:
            assert cell.close() == ()

    with pytest.raises(SandboxUnavailable, match=r"too many open files; hint: .*ulimit -n"):
        run(main)


def test_a_call_that_cannot_be_sent_was_skipped_and_the_sandbox_is_as_good_as_before(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        # No spare, which needs no descriptors any more.
        async with sandbox(tmp_path, spares=0) as cell:
            for count in range(10):
                with descriptors_left(count):
                    result = await cell.call(command(tmp_path, "touch up"))
                assert (result.outcome, result.started) == (Outcome.SKIPPED, StartedState.NO)
                assert "too many open files" in result.detail
                assert "ulimit -n" in result.detail
            assert not (tmp_path / "up").exists()
            assert (await cell.call(command(tmp_path, "true"))).outcome is Outcome.OK

    run(main)


@pytest.mark.parametrize("left", [10, 11, 12, 13])
def test_a_call_for_whose_processes_nothing_is_left_has_an_end(tmp_path: Path, left: int) -> None:
    """Its channels are made; the host cannot look at the process, or not even take its pidfd."""

    async def main() -> CallResult:
        plan = make_plan(Policy(), host_facts(), workspace=tmp_path)
        cell = Cell(plan, grace=0.1, term=0.1)
        await cell.open()
        try:
            with descriptors_left(left):
                return await cell.call(command(tmp_path, "true"))
        finally:
            assert cell.close() == ()

    result = run(main)
    assert result.outcome in (Outcome.OK, Outcome.SKIPPED, Outcome.CRASHED)
    if result.outcome is not Outcome.OK:
        assert "ulimit -n" in result.detail


def test_what_runs_is_stopped_without_a_single_descriptor(tmp_path: Path) -> None:
    async def main() -> CallResult:
        async with sandbox(tmp_path) as cell:
            request = command(tmp_path, "trap '' INT TERM; touch up; while :; do sleep 0.01; done")
            task = asyncio.create_task(cell.call(request))
            await until((tmp_path / "up").exists)
            # The host has taken its pidfd: one that is lost on the way ends the sandbox.
            await until(lambda: cell._supervisor._calls.all()[0].process is not None)
            with descriptors_left(0):
                assert cell.cancel(request.id, CancelReason.INTERRUPT)
                return await task

    result = run(main)
    assert (result.outcome, result.rung, result.survivors) == (Outcome.KILLED, Rung.KILL, ())


def test_a_spare_that_the_host_cannot_take_costs_no_call(tmp_path: Path) -> None:
    """Its pidfd is lost on the way, while a call is going."""
    os.mkfifo(tmp_path / "go")
    (tmp_path / "go").chmod(0o666)

    async def main() -> CallResult:
        async with sandbox(tmp_path, spares=2) as cell:
            await spared.until_waiting(cell, 2)
            text = "touch up; read line < go; echo $line"
            going = asyncio.create_task(cell.call(command(tmp_path, text)))
            await until((tmp_path / "up").exists)
            [init] = [
                one.pid
                for one in observer.descendants(os.getpid())
                if one.name == "sandbox-init" and len(one.namespace_pids) == 2
            ]
            os.kill(init, signal.SIGSTOP)
            # It takes a spare, and ends without init. Then another spare is asked for.
            assert (await cell.call(command(tmp_path, "true"))).outcome is Outcome.OK
            await until(lambda: bool(cell._supervisor.spares._asked))
            with descriptors_left(0):
                os.kill(init, signal.SIGCONT)
                await until(lambda: bool(cell.spares_note))
            assert "ulimit -n" in cell.spares_note
            await asyncio.to_thread((tmp_path / "go").write_text, "on\n")
            result = await going
            assert (await cell.call(command(tmp_path, "true"))).outcome is Outcome.OK
            return result

    result = run(main)
    assert (result.outcome, result.output) == (Outcome.OK, "on\n")
