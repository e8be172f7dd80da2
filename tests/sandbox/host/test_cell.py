"""A real sandbox: what a call comes to, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import termios
import threading
import time
from pathlib import Path

import msgspec
import observer
import pytest
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.messages import Describe
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.errors import CellClosed, SandboxBroken, SandboxUnavailable
from sandbox_agent_sandbox.host.call_io import CallIO
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.outcome import CallResult, Outcome, Rung, StartedState
from sandbox_agent_sandbox.plan import Landlock
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from sandboxes import command, function, run, sandbox, until

INTERRUPT = CancelReason.INTERRUPT


def test_a_command_runs_and_its_output_and_status_come_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            good = await cell.call(command(tmp_path, "echo out; echo err >&2; echo kept > file"))
            assert (good.outcome, good.output, good.exit_status) == (Outcome.OK, "out\nerr\n", 0)
            bad = await cell.call(command(tmp_path, "exit 7"))
            assert (bad.outcome, bad.exit_status) == (Outcome.ERROR, 7)

    run(main)
    assert (tmp_path / "file").read_text() == "kept\n"
    assert (tmp_path / "file").stat().st_uid == os.geteuid()


def test_what_a_command_leaves_in_the_background_ends_with_its_call(tmp_path: Path) -> None:
    mark = observer.new_mark()

    async def main() -> CallResult:
        async with sandbox(tmp_path) as cell:
            return await cell.call(
                command(
                    tmp_path,
                    f"setsid sleep 300.{mark} & nohup sleep 300.{mark} & "
                    f"(sleep 300.{mark} &) ; echo done",
                )
            )

    result = run(main)
    assert result.outcome is Outcome.OK
    assert "done" in result.output
    assert observer.marked(mark) == []


def test_a_tree_that_ignores_everything_is_dead_when_the_call_returns(tmp_path: Path) -> None:
    mark = observer.new_mark()
    token = RunToken()
    text = f"""
    trap '' INT TERM HUP
    setsid sleep 300.{mark} &
    (setsid sh -c "trap '' INT TERM; sleep 300.{mark}; sleep 300.{mark}" &)
    sh -c 'kill -STOP $$; sleep 300.{mark}' &
    while :; do sleep 300.{mark}; done
    """

    async def main() -> CallResult:
        async with sandbox(tmp_path) as cell:
            task = asyncio.create_task(cell.call(command(tmp_path, text), token=token))
            await until(lambda: len(observer.marked(mark)) >= 4)
            token.cancel(INTERRUPT)
            result = await task
            assert observer.marked(mark) == [], "returned means stopped"
            return result

    result = run(main)
    assert (result.outcome, result.rung) == (Outcome.KILLED, Rung.KILL)
    assert list(result.rungs_ms) == ["flag", "term", "kill", "ended"]


def test_a_command_that_heeds_sigint_needs_no_signal_of_the_ladder(tmp_path: Path) -> None:
    token = RunToken()
    text = "trap 'echo bye; exit 3' INT; echo ready; while :; do sleep 0.05; done"

    async def main() -> CallResult:
        async with sandbox(tmp_path, grace=20) as cell:
            ready = asyncio.Event()
            seen = bytearray()

            def on_output(stream: str, data: bytes) -> None:
                seen.extend(data)
                ready.set()

            request = command(tmp_path, text, on_output=on_output)
            task = asyncio.create_task(cell.call(request, token=token))
            await ready.wait()
            token.cancel(INTERRUPT)
            result = await task
            assert seen.endswith(b"bye\n")
            return result

    result = run(main)
    assert (result.outcome, result.rung, result.exit_status) == (Outcome.CANCELLED, Rung.FLAG, 3)


def test_of_two_parallel_calls_one_is_cancelled_and_the_other_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            begun: list[int] = []
            first = command(tmp_path, "sleep 300", on_started=lambda: begun.append(1))
            text = "while [ ! -e go ]; do sleep 0.01; done"
            second = command(tmp_path, text, on_started=lambda: begun.append(2))
            one = asyncio.create_task(cell.call(first))
            two = asyncio.create_task(cell.call(second))
            await until(lambda: len(begun) == 2)
            assert cell.cancel(first.id, CancelReason.CANCEL_CALL)
            assert (await one).outcome is Outcome.CANCELLED
            (tmp_path / "go").touch()
            assert (await two).outcome is Outcome.OK
            assert not cell.cancel(first.id, CancelReason.CANCEL_CALL)

    run(main)


def test_a_call_whose_time_is_up_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            # On a busy machine the call may not have come to its start within the first of them.
            for seconds in (0.2, 1.0, 5.0):
                text = "trap '' INT TERM; sleep 300"
                result = await cell.call(command(tmp_path, text, timeout=seconds))
                assert result.outcome is Outcome.TIMEOUT
                if result.started is StartedState.YES:
                    return
            pytest.fail("no call was in flight when its time was up")

    run(main)


def test_a_command_whose_time_is_up_has_its_exit_status(tmp_path: Path) -> None:
    async def main() -> CallResult:
        async with sandbox(tmp_path, term=20) as cell:
            text = "trap '' INT; trap 'exit 4' TERM; touch up; while :; do sleep 0.01; done"
            task = asyncio.create_task(cell.call(command(tmp_path, text, timeout=1)))
            await until((tmp_path / "up").exists)
            return await task

    result = run(main)
    assert (result.outcome, result.rung, result.exit_status) == (Outcome.TIMEOUT, Rung.TERM, 4)


def test_a_cancelled_token_starts_nothing(tmp_path: Path) -> None:
    token = RunToken()
    token.cancel(INTERRUPT)

    async def main() -> CallResult:
        async with sandbox(tmp_path) as cell:
            return await cell.call(command(tmp_path, "touch marker"), token=token)

    result = run(main)
    assert (result.outcome, result.started) == (Outcome.SKIPPED, StartedState.NO)
    assert not (tmp_path / "marker").exists()


def test_a_foreign_cancellation_waits_until_the_work_has_stopped(tmp_path: Path) -> None:
    mark = observer.new_mark()

    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            text = f"trap '' INT TERM; sleep 300.{mark}; sleep 300.{mark}"
            task = asyncio.create_task(cell.call(command(tmp_path, text)))
            await until(lambda: bool(observer.marked(mark)))
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()  # and impatience changes nothing
            with pytest.raises(asyncio.CancelledError):
                await task
            assert observer.marked(mark) == []

    run(main)


def test_more_calls_than_the_board_has_slots_wait_their_turn(tmp_path: Path) -> None:
    async def main() -> None:
        async with sandbox(tmp_path, limits={"processes": 1000}) as cell:
            calls = [cell.call(command(tmp_path, "echo $PPID")) for _ in range(70)]
            assert {result.outcome for result in await asyncio.gather(*calls)} == {Outcome.OK}

    run(main)


def test_a_flood_is_cut_and_counted(tmp_path: Path) -> None:
    async def main() -> CallResult:
        async with sandbox(tmp_path) as cell:
            request = command(tmp_path, "yes | head -c 3000000; echo the end", output_limit=10_000)
            return await cell.call(request)

    result = run(main)
    assert result.output_bytes == 3_000_008
    assert result.output.startswith("y\n")
    assert result.output.endswith("the end\n")
    assert len(result.output) < 10_100


def test_large_arguments_arrive_whole(tmp_path: Path) -> None:
    text = "x" * 3_000_000

    async def main() -> CallResult:
        async with sandbox(tmp_path) as cell:
            return await cell.call(
                function(
                    tmp_path,
                    "sandbox_agent_sandbox.inside.tools.writing",
                    "write_file",
                    {"path": "big", "content": text},
                )
            )

    assert run(main).outcome is Outcome.OK
    assert (tmp_path / "big").read_text() == text


def test_a_worker_that_kills_itself_has_crashed(tmp_path: Path) -> None:
    async def main() -> CallResult:
        async with sandbox(tmp_path) as cell:
            return await cell.call(command(tmp_path, "kill -9 $PPID; sleep 300"))

    result = run(main)
    assert (result.outcome, result.exit_status) == (Outcome.CRASHED, -9)
    assert "SIGKILL: a process of this call sent it" in result.detail


@pytest.mark.parametrize("scoped", [True, False])
def test_a_tools_own_sigterm_to_its_init_is_no_order(tmp_path: Path, scoped: bool) -> None:
    """Without a scope of Landlock it arrives there."""
    script = "(kill -TERM 1; kill -KILL 1; kill -STOP 1) 2>/dev/null; echo alive"
    plan = make_plan(Policy(), host_facts(), workspace=tmp_path)
    if not scoped:
        plan = msgspec.structs.replace(plan, landlock=Landlock())

    async def main() -> CallResult:
        cell = Cell(plan, grace=0.1, term=0.1)
        await cell.open()
        try:
            return await cell.call(command(tmp_path, script))
        finally:
            assert cell.close() == ()

    result = run(main)
    assert (result.outcome, result.output) == (Outcome.OK, "alive\n")


def test_killing_init_ends_every_call_and_the_sandbox_says_so(tmp_path: Path) -> None:
    mark = observer.new_mark()

    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            calls = [
                asyncio.create_task(cell.call(command(tmp_path, f"sleep 300.{mark}")))
                for _ in range(3)
            ]
            await until(lambda: len(observer.marked(mark)) >= 3)
            [init] = [p for p in observer.everything() if len(p.namespace_pids) == 2
                      and p.namespace_pids[1] == 1 and p.pid in _ours()]  # fmt: skip
            os.kill(init.pid, signal.SIGKILL)
            results = await asyncio.gather(*calls)
            assert {result.outcome for result in results} == {Outcome.CRASHED}
            assert observer.marked(mark) == []
            with pytest.raises(SandboxBroken):
                await cell.call(command(tmp_path, "true"))

    run(main)


def _ours() -> set[int]:
    return {process.pid for process in observer.descendants(os.getpid())}


def test_cancelling_needs_no_event_loop(tmp_path: Path) -> None:
    """A blocked loop does not delay the ladder: the work is dead before the loop runs again."""
    mark = observer.new_mark()
    token = RunToken()

    async def main() -> None:
        async with sandbox(tmp_path) as cell:
            text = f"trap '' INT TERM; touch deaf; sleep 300.{mark}; sleep 300.{mark}"
            task = asyncio.create_task(cell.call(command(tmp_path, text), token=token))
            await until((tmp_path / "deaf").exists)
            threading.Thread(target=token.cancel, args=(INTERRUPT,)).start()
            deadline = time.monotonic() + 20
            while observer.marked(mark):  # the loop is blocked all the while
                assert time.monotonic() < deadline
            assert cell.wait_idle(20)
            assert not task.done()
            assert (await task).outcome is Outcome.KILLED

    run(main)


def test_a_second_interrupt_that_overtakes_the_first_is_not_lost_and_is_for_no_later_call(
    tmp_path: Path,
) -> None:
    """Two threads interrupt at once, and the second is the faster one."""

    async def main() -> tuple[CallResult, CallResult]:
        async with sandbox(tmp_path, grace=0.5, term=20) as cell:
            results = []
            for name, orders in (("one", [cell.escalate]), ("two", [])):
                text = f"trap '' INT; touch {name}; while :; do sleep 0.01; done"
                request = command(tmp_path, text)
                task = asyncio.create_task(cell.call(request))
                await until((tmp_path / name).exists)
                for order in orders:
                    order()
                assert cell.cancel(request.id, INTERRUPT)
                results.append(await task)
            return results[0], results[1]

    hurried, patient = run(main)
    assert (hurried.outcome, hurried.rung) == (Outcome.CANCELLED, Rung.TERM)
    assert hurried.rungs_ms["term"] < 250
    assert (patient.outcome, patient.rung) == (Outcome.CANCELLED, Rung.TERM)
    assert patient.rungs_ms["term"] >= 500


@pytest.mark.parametrize("what", ["cancel", "close"])
def test_a_forked_child_neither_wakes_nor_stops_what_belongs_to_its_parent(
    tmp_path: Path, what: str
) -> None:
    async def main() -> CallResult:
        async with sandbox(tmp_path, grace=20, term=20) as cell:
            text = "trap 'exit 3' INT; touch up; while :; do sleep 0.01; done"
            request = command(tmp_path, text)
            task = asyncio.create_task(cell.call(request))
            await until((tmp_path / "up").exists)
            child = os.fork()
            if child == 0:
                try:
                    if what == "cancel":
                        cell.cancel(request.id, INTERRUPT)
                    cell.escalate()
                    if what == "close":
                        cell.close()
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            going = cell._supervisor._calls.get(request.id)
            assert going is not None
            wake = going.wake.number
            unread = fcntl.ioctl(wake, termios.FIONREAD, bytes(4))
            assert int.from_bytes(unread, sys.byteorder) == 0, "the worker was woken"
            assert cell.cancel(request.id, INTERRUPT)
            return await task

    result = run(main)
    assert (result.outcome, result.rung, result.exit_status) == (Outcome.CANCELLED, Rung.FLAG, 3)


@pytest.mark.parametrize("when", ["being built", "built"])
def test_a_call_that_begins_in_a_frozen_sandbox_runs_once_it_is_thawed(
    tmp_path: Path, when: str
) -> None:
    def stopped() -> bool:
        below = observer.descendants(os.getpid())
        # It may not even have come to its worker: then its init is the one that is stopped.
        call = [one for one in below if len(one.namespace_pids) >= 3]
        return any(") T " in Path(f"/proc/{one.pid}/stat").read_text() for one in call)

    async def main() -> CallResult:
        plan = make_plan(Policy(), host_facts(), workspace=tmp_path)
        cell = Cell(plan, grace=0.1, term=0.1)
        try:
            opening = asyncio.create_task(cell.open())
            await asyncio.sleep(0)
            if when == "built":
                await opening
            assert await asyncio.to_thread(cell.freeze, 20)
            await opening
            task = asyncio.create_task(cell.call(command(tmp_path, "touch up")))
            await until(stopped)
            assert not (tmp_path / "up").exists()
            cell.thaw()
            return await task
        finally:
            cell.close()

    assert run(main).outcome is Outcome.OK
    assert (tmp_path / "up").exists()


def test_a_closed_sandbox_takes_no_calls_and_closing_twice_is_fine(tmp_path: Path) -> None:
    async def main() -> None:
        plan = make_plan(Policy(), host_facts(), workspace=tmp_path)
        cell = Cell(plan, grace=0.1, term=0.1)
        with pytest.raises(CellClosed):
            await cell.call(command(tmp_path, "true"))
        await cell.open()
        assert cell.close() == ()
        assert cell.close() == ()
        with pytest.raises(CellClosed):
            await cell.call(command(tmp_path, "true"))

    run(main)


def test_closing_ends_the_calls_in_flight(tmp_path: Path) -> None:
    mark = observer.new_mark()

    async def main() -> CallResult:
        async with sandbox(tmp_path) as cell:
            task = asyncio.create_task(cell.call(command(tmp_path, f"sleep 300.{mark}")))
            await until(lambda: bool(observer.marked(mark)))
            await asyncio.to_thread(cell.close)
            assert observer.marked(mark) == []
            return await task

    assert run(main).outcome in (Outcome.CANCELLED, Outcome.KILLED)


def test_a_sandbox_that_is_closed_while_it_opens_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        plan = make_plan(Policy(), host_facts(), workspace=tmp_path)
        cell = Cell(plan, grace=0.1, term=0.1)
        opening = asyncio.create_task(cell.open())
        await asyncio.sleep(0)
        await asyncio.to_thread(cell.close)
        # On a busy machine it may have been open before it was closed.
        with contextlib.suppress(SandboxBroken, SandboxUnavailable):
            await opening
        assert not cell.usable

    run(main)


@pytest.mark.parametrize("order_follows", [True, False])
def test_a_sigterm_from_outside_is_a_cancellation_if_the_order_to_stop_follows(
    tmp_path: Path, order_follows: bool
) -> None:
    """Jenkins and systemd terminate every process of a job, in any order."""
    mark = observer.new_mark()
    token = RunToken()

    async def main() -> CallResult:
        async with sandbox(tmp_path, grace=0.3, term=0.3) as cell:
            # One that holds out must not keep the call from ending either.
            text = f"setsid sh -c 'trap \"\" TERM; sleep 300.{mark}; sleep 1' & sleep 300.{mark}"
            task = asyncio.create_task(cell.call(command(tmp_path, text), token=token))
            await until(lambda: len(observer.marked(mark)) >= 3)
            for process in observer.descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError):  # ended since, of an earlier one
                    os.kill(process.pid, signal.SIGTERM)
            if order_follows:
                token.cancel(INTERRUPT)
            result = await task
            assert observer.marked(mark) == []
            return result

    result = run(main)
    stopped = (Outcome.CANCELLED, Outcome.KILLED)  # killed: the one that holds out
    assert result.outcome in (stopped if order_follows else (Outcome.ERROR,))
    if not order_follows:
        assert result.exit_status == -signal.SIGTERM, "of the command: the worker has reported it"


@pytest.mark.parametrize("order_follows", [True, False])
@pytest.mark.parametrize(
    ("text", "status"),
    [("exec sleep 300.{mark}", -signal.SIGTERM), ("sleep 300.{mark}; exit $?", 128 + 15)],
)
def test_a_command_ended_by_a_sigterm_from_outside_is_cancelled_if_the_order_to_stop_follows(
    tmp_path: Path, text: str, status: int, order_follows: bool
) -> None:
    mark = observer.new_mark()
    token = RunToken()

    def sleeping() -> list[observer.Process]:
        return [p for p in observer.marked(mark) if p.command.startswith("sleep")]

    async def main() -> CallResult:
        async with sandbox(tmp_path, grace=20, term=20) as cell:
            request = command(tmp_path, text.format(mark=mark))
            task = asyncio.create_task(cell.call(request, token=token))
            await until(lambda: bool(sleeping()))
            os.kill(sleeping()[0].pid, signal.SIGTERM)
            await until(lambda: not cell._supervisor._calls)
            if order_follows:
                token.cancel(INTERRUPT)
            return await task

    result = run(main)
    expected = Outcome.CANCELLED if order_follows else Outcome.ERROR
    assert (result.outcome, result.exit_status) == (expected, status)


def test_a_call_that_begins_just_as_another_thread_closes_the_sandbox_has_an_end(
    tmp_path: Path,
) -> None:
    async def main() -> CallResult:
        async with sandbox(tmp_path) as cell:
            request = command(tmp_path, "touch up")
            # Between the look whether the sandbox is open and the order to make the processes.
            slot = cell._board.claim(request.id, 0)
            assert cell._supervisor.close() == ()
            call = CallIO(request, slot, cell._supervisor)
            try:
                await call.run(Describe([], str(tmp_path), {}), None)
            finally:
                call.close()
            assert cell.wait_idle(0)
            return call.result()

    result = run(main, 20)
    assert (result.outcome, result.started) == (Outcome.CRASHED, StartedState.NO)
    assert result.detail == "the sandbox was closed"
