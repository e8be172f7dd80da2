"""Every way to stop a run: when it has returned, its work has stopped, and the record says so."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import observer
import pytest
import talking
from sandbox_agent.config.settings import Budgets, Interrupt
from sandbox_agent.conversation import Conversation, RunResult
from sandbox_agent.embedding import signal_wakeup
from sandbox_agent.errors import NotRecorded, StateError
from sandbox_agent.journal.events import (
    CancelRequested,
    Dispatching,
    Ended,
    SegmentEnded,
    SegmentStarted,
    Started,
    TurnTaken,
    Verified,
)
from sandbox_agent.journal.history import ToolMessage
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.journal.status import Status
from sandbox_agent.models import Model
from sandbox_agent_ipc.cancel_reason import CancelReason
from talking import FINAL, Watch, calls, shell, sleeper, soon, talk

STUBBORN = "trap '' INT TERM; echo up; while :; do sleep 300.{mark}; done"


@pytest.fixture
def mark() -> Iterator[str]:
    mark = observer.new_mark()
    yield mark
    assert observer.marked(mark) == []


def check_record(conv: Conversation, status: Status) -> None:
    """What every stopped run has: one end for each call, a token, a whole record."""
    record = read_record(conv.run_dir)
    assert record.status is status
    assert conv.status is status
    assert record.survivors == ()
    last = conv.events[-1]
    assert isinstance(last, SegmentEnded)
    assert last.status == status
    asked = [call.id for e in conv.events if isinstance(e, TurnTaken) for call in e.calls]
    assert {call.id for call in record.calls} == set(asked) <= set(talking.ends(conv))
    results = [m for m in conv._recorder.state.history() if isinstance(m, ToolMessage)]
    assert [result.call_id for result in results] == asked


# --- interrupt ------------------------------------------------------------------------------


def by_run(conv: Conversation) -> RunResult:
    return conv.run()


def by_arun(conv: Conversation) -> RunResult:
    return asyncio.run(conv.arun())


@pytest.mark.parametrize("way", [by_run, by_arun])
def test_an_interrupt_from_another_thread_stops_and_returns(
    tmp_path: Path, watch: Watch, mark: str, way: Callable[[Conversation], RunResult]
) -> None:
    with talk(tmp_path, watch, shell(*[sleeper(mark)] * 3), FINAL) as conv:
        soon(lambda: (watch.wait_up(3), conv.interrupt()))
        result = way(conv)
        assert observer.marked(mark) == []
        assert (result.status, result.exit_code) == (Status.INTERRUPTED, 130)
        assert conv.cancel_token is not None
        assert conv.cancel_token.reason is CancelReason.INTERRUPT
        check_record(conv, Status.INTERRUPTED)
        for end in talking.ends(conv).values():
            assert (end.outcome, end.started) == ("cancelled", "yes")
            assert end.content == "up\n"
        requested = [event for event in conv.events if isinstance(event, CancelRequested)]
        assert [(event.reason, event.call) for event in requested] == [("interrupt", None)]


def test_an_interrupt_from_a_signal_handler_stops_and_returns(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    with talk(tmp_path, watch, shell(sleeper(mark)), FINAL) as conv:
        handler = signal.signal(signal.SIGUSR1, lambda *_: conv.interrupt(exit_code=143))
        try:
            soon(lambda: (watch.wait_up(), os.kill(os.getpid(), signal.SIGUSR1)))
            result = conv.run()
        finally:
            signal.signal(signal.SIGUSR1, handler)
        assert (result.status, result.exit_code) == (Status.INTERRUPTED, 143)
        check_record(conv, Status.INTERRUPTED)


@pytest.mark.parametrize(
    "kind", [SegmentStarted, TurnTaken, Dispatching, Started, Ended, Verified, SegmentEnded]
)
@pytest.mark.parametrize("times", [1, 3])
def test_a_callback_may_interrupt_at_every_event(
    tmp_path: Path, watch: Watch, mark: str, kind: type, times: int
) -> None:
    slow = shell("true", sleeper(mark)) if kind is not Verified else shell("true")
    slow = FINAL if kind in (Verified, SegmentEnded) else slow
    conv = talk(tmp_path, watch, slow, FINAL, verify=["true", "touch second"])

    def also(event: Any) -> None:
        if isinstance(event, kind):
            for _ in range(times):
                conv.interrupt()

    watch.also = also
    with conv:
        result = conv.run()
        if kind is SegmentEnded:
            # The end is written: an interrupt changes nothing any more.
            assert result.status is Status.DONE
            assert conv.cancel_token is None
        else:
            assert result.status is Status.INTERRUPTED
            assert conv.cancel_token is not None
            assert conv.cancel_token.is_cancelled
            assert not (tmp_path / "work" / "second").exists()
        check_record(conv, result.status)
        if kind in (TurnTaken, SegmentStarted):
            assert not any(isinstance(event, Dispatching) for event in conv.events)
        if kind is Dispatching:
            first = talking.ends(conv)["call_1_1"]
            assert (first.outcome, first.started) == ("skipped", "no")


def test_a_verify_command_that_is_stopped_with_the_run_has_no_verdict(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    with talk(tmp_path, watch, FINAL, verify=["true", sleeper(mark)]) as conv:
        soon(lambda: (watch.wait_up(), conv.interrupt()))
        assert conv.run().status is Status.INTERRUPTED
        assert [(one.call, one.passed) for one in read_record(conv.run_dir).verify] == [
            ("verify_1_1", True)
        ]
        assert talking.ends(conv)["verify_1_2"].outcome == "cancelled"
        check_record(conv, Status.INTERRUPTED)


@pytest.mark.parametrize("commands", [["touch x"], ["touch x", "touch y"]])
def test_an_interrupt_just_before_verify_is_an_interrupt(
    tmp_path: Path, watch: Watch, commands: list[str]
) -> None:
    """After the last look of the run at its token, before the first of the call."""
    conv = talk(tmp_path, watch, FINAL, verify=commands)

    def also(event: Any) -> None:
        if isinstance(event, TurnTaken):
            asyncio.get_running_loop().call_soon(conv.interrupt)

    watch.also = also
    with conv:
        result = conv.run()
        assert (result.status, result.exit_code, result.error) == (Status.INTERRUPTED, 130, None)
        assert not any(isinstance(event, Dispatching | Ended | Verified) for event in conv.events)
        assert os.listdir(tmp_path / "work") == []
        check_record(conv, Status.INTERRUPTED)


def test_an_interrupt_without_a_run_does_nothing(tmp_path: Path, watch: Watch) -> None:
    with talk(tmp_path, watch, FINAL, shell("echo on"), FINAL) as conv:
        conv.interrupt()
        assert conv.cancel_token is None
        kept: list[Any] = []
        watch.also = lambda event: kept.append(conv.cancel_token)
        assert conv.run().status is Status.DONE
        conv.interrupt()
        conv.interrupt()
        assert conv.cancel_token is None
        assert not kept[-1].is_cancelled
        assert conv.run().status is Status.DONE
        assert kept[-1] is not kept[1]


def test_a_second_interrupt_skips_the_grace_and_a_third_changes_nothing(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    command = f"trap '' INT; echo up; sleep 300.{mark}"
    with talk(tmp_path, watch, shell(command), FINAL, interrupt=Interrupt(60, 60)) as conv:

        def strike() -> None:
            watch.wait_up()
            for _ in range(3):
                conv.interrupt()

        soon(strike)
        begun = time.monotonic()
        result = conv.run()
        assert time.monotonic() - begun < 30
        assert result.status is Status.INTERRUPTED
        end = talking.ends(conv)["call_1_1"]
        assert (end.outcome, end.rung) == ("cancelled", "term")
        check_record(conv, Status.INTERRUPTED)


def test_what_ignores_every_signal_is_killed_and_parallel_calls_take_the_longest_not_the_sum(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    stubborn = STUBBORN.format(mark=mark)
    with talk(tmp_path, watch, shell(*[stubborn] * 4), FINAL) as conv:
        struck: list[float] = []
        soon(lambda: (watch.wait_up(4), struck.append(time.monotonic()), conv.interrupt()))
        conv.run()
        took = time.monotonic() - struck[0]
        assert observer.marked(mark) == []
        assert {end.outcome for end in talking.ends(conv).values()} == {"killed"}
        assert took < 2 * (0.5 + 0.5)  # one ladder is 1 s; four in a row would be 4 s
        check_record(conv, Status.INTERRUPTED)


def test_a_hundred_queued_calls_interrupted_are_skipped(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    queue = shell(sleeper(mark), *[f"touch marker-{number}" for number in range(99)])
    with talk(tmp_path, watch, queue, FINAL, parallel=1) as conv:
        soon(lambda: (watch.wait_up(), conv.interrupt()))
        conv.run()
        check_record(conv, Status.INTERRUPTED)
        found = talking.ends(conv)
        assert len(found) == 100
        assert [e.call for e in conv.events if isinstance(e, Dispatching)] == ["call_1_1"]
        del found["call_1_1"]
        assert {(end.outcome, end.started) for end in found.values()} == {("skipped", "no")}
    assert list((tmp_path / "work").iterdir()) == []


def test_after_an_interrupt_the_next_run_goes_on(tmp_path: Path, watch: Watch, mark: str) -> None:
    with talk(tmp_path, watch, shell(sleeper(mark)), shell("echo on"), FINAL) as conv:
        soon(lambda: (watch.wait_up(), conv.interrupt()))
        conv.run()
        retained = conv.cancel_token
        assert retained is not None
        result = conv.run()
        assert result.status is Status.DONE
        assert talking.ends(conv)["call_2_1"].content == "on\n"
        assert conv.cancel_token is None
        assert retained.is_cancelled


def test_an_interrupt_while_the_sandbox_opens_or_tools_are_looked_at(
    tmp_path: Path, watch: Watch
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "slow_tools.py").write_text(
        "import time\nopen('importing', 'w').close()\ntime.sleep(300)\n"
    )
    with talk(tmp_path, watch, FINAL, tools=["slow_tools:f"]) as conv:

        def strike() -> None:
            end = time.monotonic() + talking.DEADLINE
            while not (tmp_path / "work" / "importing").exists() and time.monotonic() < end:
                threading.Event().wait(0.01)
            conv.interrupt()

        soon(strike)
        begun = time.monotonic()
        result = conv.run()
        assert time.monotonic() - begun < 20
        assert result.status is Status.INTERRUPTED
        check_record(conv, Status.INTERRUPTED)


# --- wait_stopped ---------------------------------------------------------------------------


def test_wait_stopped_waits_for_the_record(tmp_path: Path, watch: Watch, mark: str) -> None:
    with talk(tmp_path, watch, shell(sleeper(mark)), FINAL) as conv:
        assert conv.wait_stopped(0)
        seen: list[Any] = []

        def strike() -> None:
            watch.wait_up()
            seen.append(conv.wait_stopped(0.01))
            conv.interrupt()
            seen.append(conv.wait_stopped(talking.DEADLINE))
            seen.append(observer.marked(mark))
            seen.append(type(conv.events[-1]))

        thread = soon(strike)
        conv.run()
        thread.join()
        assert seen == [False, True, [], SegmentEnded]


def test_wait_stopped_in_a_callback_waits_for_the_processes(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    conv = talk(tmp_path, watch, shell(sleeper(mark)), FINAL)
    seen: list[Any] = []

    def on_output(call: str, stream: str, data: bytes) -> None:
        with pytest.raises(StateError, match="interrupt"):
            conv.wait_stopped(1)
        conv.interrupt()
        seen.append(conv.wait_stopped(talking.DEADLINE))
        seen.append(observer.marked(mark))

    conv.close()
    with talk(tmp_path, watch, shell(sleeper(mark)), FINAL, on_output=on_output) as conv:
        conv.run()
        assert seen == [True, []]
        check_record(conv, Status.INTERRUPTED)


# --- cancel_call ----------------------------------------------------------------------------


def test_cancel_call_stops_one_call_queued_or_in_flight(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    step = shell(sleeper(mark), "echo one > one", "echo two > two")
    with talk(tmp_path, watch, step, FINAL, parallel=1) as conv:

        def strike() -> None:
            watch.wait_up()
            assert conv.cancel_call("call_1_2")
            assert conv.cancel_call("call_1_1")
            conv.cancel_call("call_1_1")  # False if it has ended in the meantime
            assert not conv.cancel_call("nobody")

        soon(strike)
        result = conv.run()
        assert result.status is Status.DONE
        found = {call: (end.outcome, end.started) for call, end in talking.ends(conv).items()}
        assert found == {
            "call_1_1": ("cancelled", "yes"),
            "call_1_2": ("skipped", "no"),
            "call_1_3": ("ok", "yes"),
        }
        assert os.listdir(tmp_path / "work") == ["two"]
        requested = [(e.reason, e.call) for e in conv.events if isinstance(e, CancelRequested)]
        assert sorted(requested) == [("cancel_call", "call_1_1"), ("cancel_call", "call_1_2")]
        assert not conv.cancel_call("call_1_1")
        assert conv.cancel_token is None


# --- foreign cancellation -------------------------------------------------------------------


def test_wait_for_times_out_after_the_work_has_stopped(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    async def main(conv: Conversation, seconds: float) -> bool:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(conv.arun(), seconds)
        assert observer.marked(mark) == []
        check_record(conv, Status.INTERRUPTED)
        assert conv.cancel_token is not None
        assert conv.cancel_token.reason is CancelReason.CANCELLED
        return [end.started for end in talking.ends(conv).values()] == ["yes"]

    # On a busy machine the call may not have come to its start within the first of them.
    for seconds in (1.0, 4.0, 16.0):
        with talk(tmp_path, watch, shell(STUBBORN.format(mark=mark)), FINAL) as conv:
            if asyncio.run(main(conv, seconds)):
                return
    pytest.fail("no call was in flight when the time was up")


def test_asyncio_timeout_works_as_it_does_elsewhere(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    async def main(conv: Conversation) -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                up = loop.run_in_executor(None, watch.wait_up)
                up.add_done_callback(lambda _: limit.reschedule(loop.time()))
                await conv.arun()
        assert observer.marked(mark) == []
        assert (await conv.arun()).status is Status.DONE

    with talk(tmp_path, watch, shell(sleeper(mark)), FINAL) as conv:
        asyncio.run(main(conv))


@pytest.mark.parametrize("times", [1, 5])
def test_a_cancelled_task_stops_the_work_then_is_cancelled(
    tmp_path: Path, watch: Watch, mark: str, times: int
) -> None:
    async def main(conv: Conversation) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(conv.arun())
        await loop.run_in_executor(None, watch.wait_up, 2)
        for _ in range(times):
            task.cancel()
            # Not to synchronise: the cancellations shall fall on different rungs.
            await asyncio.sleep(0.02)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert observer.marked(mark) == []

    stubborn = STUBBORN.format(mark=mark)
    with talk(tmp_path, watch, shell(stubborn, sleeper(mark)), FINAL) as conv:
        asyncio.run(main(conv))
        check_record(conv, Status.INTERRUPTED)
        assert talking.ends(conv)["call_1_1"].outcome == "killed"


def test_a_loop_that_shuts_down_stops_the_work_first(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    async def main(conv: Conversation) -> None:
        tasks.append(asyncio.create_task(conv.arun()))
        await asyncio.get_running_loop().run_in_executor(None, watch.wait_up)

    tasks: list[Any] = []
    with talk(tmp_path, watch, shell(sleeper(mark)), FINAL) as conv:
        asyncio.run(main(conv))
        assert observer.marked(mark) == []
        assert tasks[0].cancelled()
        check_record(conv, Status.INTERRUPTED)
        end = talking.ends(conv)["call_1_1"]
        assert (end.outcome, end.started) == ("cancelled", "yes")


def test_a_loop_that_shuts_down_before_the_run_has_begun_leaves_nothing(
    tmp_path: Path, watch: Watch
) -> None:
    async def main(conv: Conversation) -> None:
        tasks.append(asyncio.create_task(conv.arun()))

    tasks: list[Any] = []
    with talk(tmp_path, watch, FINAL) as conv:
        asyncio.run(main(conv))
        assert tasks[0].cancelled()
        assert not any(isinstance(event, TurnTaken) for event in conv.events)
        assert conv.run().status is Status.DONE


def test_in_a_task_group_a_failing_neighbour_stops_the_work(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    async def neighbour() -> None:
        await asyncio.get_running_loop().run_in_executor(None, watch.wait_up)
        raise ValueError("neighbour")

    async def main(conv: Conversation) -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(conv.arun())
                group.create_task(neighbour())
        assert caught.group_contains(ValueError, match="neighbour")
        assert observer.marked(mark) == []

    with talk(tmp_path, watch, shell(sleeper(mark)), FINAL) as conv:
        asyncio.run(main(conv))
        check_record(conv, Status.INTERRUPTED)


# --- Ctrl-C ---------------------------------------------------------------------------------


def test_ctrl_c_stops_the_work_then_raises(tmp_path: Path, watch: Watch, mark: str) -> None:
    with talk(tmp_path, watch, shell(sleeper(mark)), FINAL) as conv:
        soon(lambda: (watch.wait_up(), os.kill(os.getpid(), signal.SIGINT)))
        with pytest.raises(KeyboardInterrupt):
            conv.run()
        assert observer.marked(mark) == []
        check_record(conv, Status.INTERRUPTED)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def raise_here(watch: Watch) -> None:
    """SIGINT to a thread that is not the main one, which so goes on sleeping in its loop."""
    watch.wait_up()
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)


@pytest.mark.parametrize("by_run", [True, False], ids=["run", "asyncio.run"])
def test_ctrl_c_that_does_not_interrupt_epoll_wait_stops_the_run_all_the_same(
    tmp_path: Path, watch: Watch, mark: str, by_run: bool
) -> None:
    with talk(tmp_path, watch, shell(sleeper(mark)), FINAL) as conv:
        soon(lambda: raise_here(watch))
        with pytest.raises(KeyboardInterrupt):
            conv.run() if by_run else asyncio.run(conv.arun())
        assert observer.marked(mark) == []
        check_record(conv, Status.INTERRUPTED)
        assert signal.set_wakeup_fd(-1) == -1


def test_signals_wake_the_loop_for_as_long_as_one_of_its_runs_goes(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    async def main(conv: Conversation, short: Conversation) -> None:
        brief = asyncio.create_task(short.arun())  # the first to begin, and the first to end
        long = asyncio.create_task(conv.arun())
        assert (await brief).status is Status.DONE
        soon(lambda: raise_here(watch))
        await long

    (tmp_path / "other").mkdir()
    with (
        talk(tmp_path, watch, shell(sleeper(mark)), FINAL) as conv,
        talk(tmp_path / "other", Watch(), FINAL) as short,
    ):
        before = signal.signal(signal.SIGINT, lambda number, frame: conv.interrupt())
        try:
            asyncio.run(main(conv, short))
        finally:
            signal.signal(signal.SIGINT, before)
        check_record(conv, Status.INTERRUPTED)
        assert signal.set_wakeup_fd(-1) == -1


def test_a_wakeup_descriptor_of_the_program_stays(tmp_path: Path, watch: Watch) -> None:
    async def main(conv: Conversation) -> None:
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, heard.set)
        try:
            assert (await conv.arun()).status is Status.DONE
            signal.raise_signal(signal.SIGUSR1)
            await asyncio.wait_for(heard.wait(), 10)
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)

    with talk(tmp_path, watch, FINAL) as conv:
        asyncio.run(main(conv))


def test_without_a_descriptor_left_a_run_ends_with_a_record(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(flags: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with talk(tmp_path, watch, FINAL) as conv:
        monkeypatch.setattr(signal_wakeup.os, "pipe2", none_left)
        result = conv.run()
        assert result.status in (Status.DONE, Status.ERROR)
        check_record(conv, result.status)


def test_a_second_ctrl_c_skips_the_grace(tmp_path: Path, watch: Watch, mark: str) -> None:
    command = f"trap '' INT; echo up; sleep 300.{mark}"
    with talk(tmp_path, watch, shell(command), FINAL, interrupt=Interrupt(60, 60)) as conv:

        def strike() -> None:
            watch.wait_up()
            os.kill(os.getpid(), signal.SIGINT)
            watch.wait_event(CancelRequested)  # Two that are sent at once are one to the kernel.
            os.kill(os.getpid(), signal.SIGINT)

        soon(strike)
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            conv.run()
        assert time.monotonic() - begun < 30
        assert observer.marked(mark) == []
        assert talking.ends(conv)["call_1_1"].rung == "term"
        check_record(conv, Status.INTERRUPTED)


def test_ctrl_c_under_asyncio_run_stops_the_work_then_raises(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    with talk(tmp_path, watch, shell(sleeper(mark)), FINAL) as conv:
        soon(lambda: (watch.wait_up(), os.kill(os.getpid(), signal.SIGINT)))
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(conv.arun())
        assert observer.marked(mark) == []
        check_record(conv, Status.INTERRUPTED)


def test_the_exception_of_a_signal_handler_is_raised_after_the_work_has_stopped(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    class Alarm(KeyboardInterrupt):  # Of others the loop only says that it has seen them.
        pass

    def handler(number: int, frame: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with talk(tmp_path, watch, shell(sleeper(mark)), FINAL) as conv:
            soon(lambda: (watch.wait_up(), os.kill(os.getpid(), signal.SIGUSR1)))
            with pytest.raises(Alarm):
                conv.run()
            assert observer.marked(mark) == []
            assert conv.status in (Status.INTERRUPTED, Status.ERROR)
            check_record(conv, conv.status)
    finally:
        signal.signal(signal.SIGUSR1, before)


# --- budgets and timeouts -------------------------------------------------------------------


def test_a_budget_of_turns_ends_the_run(tmp_path: Path, watch: Watch) -> None:
    steps = (shell("touch one"), shell("touch two"), FINAL)
    with talk(tmp_path, watch, *steps, budgets=Budgets(turns=1)) as conv:
        result = conv.run()
        assert (result.status, result.exit_code) == (Status.BUDGET, 3)
        assert conv.cancel_token is not None
        assert conv.cancel_token.reason is CancelReason.BUDGET
        assert os.listdir(tmp_path / "work") == ["one"]
        check_record(conv, Status.BUDGET)
        # The budget is of one run: the next goes on.
        assert conv.run().status is Status.BUDGET
        assert sorted(os.listdir(tmp_path / "work")) == ["one", "two"]
        assert conv.run().status is Status.DONE


def test_a_budget_of_time_ends_the_run_through_the_ladder(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    # Time enough for the call to begin on a busy machine.
    with talk(tmp_path, watch, shell(sleeper(mark)), FINAL, budgets=Budgets(time=3.0)) as conv:
        result = conv.run()
        assert (result.status, result.exit_code) == (Status.BUDGET, 3)
        assert conv.cancel_token is not None
        assert conv.cancel_token.reason is CancelReason.BUDGET
        assert conv.cancel_token.deadline is not None
        assert talking.ends(conv)["call_1_1"].outcome == "cancelled"
        check_record(conv, Status.BUDGET)


def test_a_budget_of_time_ends_the_work_in_time_while_the_loop_is_blocked(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    conv = talk(tmp_path, watch, shell(sleeper(mark)), FINAL, budgets=Budgets(time=1.0))
    left: list[Any] = []

    def block(event: Any) -> None:
        """The loop's own thread waits for the end of what it could never hear of."""
        if isinstance(event, Started):
            assert conv._host.cell is not None
            left.append(conv._host.cell.wait_idle(talking.DEADLINE))
            left.append(observer.marked(mark))

    watch.also = block
    with conv:
        result = conv.run()
        assert left == [True, []]
        assert (result.status, result.exit_code) == (Status.BUDGET, 3)
        assert result.reason == "the budget of 1 seconds is spent"
        check_record(conv, Status.BUDGET)


def test_a_budget_of_time_ends_a_request_to_the_model(tmp_path: Path, watch: Watch) -> None:
    with talk(tmp_path, watch, model=Slow(deaf=False), budgets=Budgets(time=0.2)) as conv:
        assert conv.run().status is Status.BUDGET
        check_record(conv, Status.BUDGET)


@pytest.mark.parametrize(
    "options",
    [
        {"tools": [{"shell": {"timeout": 0.7}}]},
        {"sandbox": {"limits": {"timeout": "700ms"}}},
        {"asked": 0.7},
    ],
)
def test_the_time_limit_of_a_call_ends_only_that_call(
    tmp_path: Path, watch: Watch, mark: str, options: dict[str, Any]
) -> None:
    asked = {"timeout": options.pop("asked")} if "asked" in options else {}
    step = calls(
        ("shell", {"command": sleeper(mark), **asked}), ("shell", {"command": "echo fine"})
    )
    with talk(tmp_path, watch, step, FINAL, **options) as conv:
        assert conv.run().status is Status.DONE
        found = talking.ends(conv)
        assert (found["call_1_1"].outcome, found["call_1_1"].started) == ("timeout", "yes")
        assert found["call_1_2"].outcome == "ok"
        assert conv.cancel_token is None


# --- failures underneath --------------------------------------------------------------------


def test_a_journal_that_cannot_be_written_stops_the_work_and_ends_the_run_as_an_error(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    with talk(tmp_path, watch, shell(sleeper(mark), sleeper(mark)), FINAL) as conv:

        def fill(event: Any) -> None:
            # At the first; the second call's acknowledgement is what cannot be written.
            if isinstance(event, Started):
                full = os.open("/dev/full", os.O_WRONLY)
                os.dup2(full, conv._recorder._writer._fd)  # type: ignore[union-attr]
                os.close(full)

        watch.also = fill
        result = conv.run()
        assert observer.marked(mark) == []
        assert result.status is Status.ERROR
        assert result.exit_code == 5
        assert "the journal cannot be written" in result.reason
        assert isinstance(result.error, NotRecorded)
        assert conv.cancel_token is not None
        assert conv.cancel_token.reason is CancelReason.FAILED
        check_record(conv, Status.ERROR)


def test_a_sandbox_that_dies_is_an_error_and_the_next_run_has_a_new_one(
    tmp_path: Path, watch: Watch, mark: str
) -> None:
    with talk(tmp_path, watch, shell(sleeper(mark)), shell("echo on"), FINAL) as conv:

        def strike() -> None:
            watch.wait_up()
            for process in observer.descendants(os.getpid()):
                if observer.look(process.pid) and process.parent == os.getpid():
                    os.kill(process.pid, signal.SIGKILL)

        soon(strike)
        result = conv.run()
        assert observer.marked(mark) == []
        assert (result.status, result.exit_code) == (Status.ERROR, 5), result.reason
        check_record(conv, Status.ERROR)
        assert conv.run().status is Status.DONE


class Slow(Model):
    """A model that takes its time, and may not care for being cancelled."""

    name = "slow"

    def __init__(self, deaf: bool) -> None:
        self.deaf = deaf
        self.asked = threading.Event()
        self.let_go: asyncio.Event | None = None

    async def complete(self, history: Any, tools: Any, token: Any, on_delta: Any) -> Any:
        self.let_go = asyncio.Event()
        self.asked.set()
        while True:
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                if not self.deaf:
                    raise
            else:
                return FINAL.turn


def test_an_interrupt_while_the_model_thinks_returns_at_once(tmp_path: Path, watch: Watch) -> None:
    model = Slow(deaf=False)
    with talk(tmp_path, watch, model=model, interrupt=Interrupt(60, 60)) as conv:
        soon(lambda: (model.asked.wait(), conv.interrupt()))
        assert conv.run().status is Status.INTERRUPTED
        assert not any(isinstance(event, TurnTaken) for event in conv.events)


def test_a_model_may_check_its_token_as_a_tool_does(tmp_path: Path, watch: Watch) -> None:
    asked = threading.Event()

    class Polite(Slow):
        async def complete(self, history: Any, tools: Any, token: Any, on_delta: Any) -> Any:
            asked.set()
            while not token.is_cancelled:
                await asyncio.sleep(0)
            token.raise_if_cancelled()

    with talk(tmp_path, watch, model=Polite(deaf=False)) as conv:
        soon(lambda: (asked.wait(), conv.interrupt()))
        assert conv.run().status is Status.INTERRUPTED
        check_record(conv, Status.INTERRUPTED)


def test_a_model_that_does_not_stop_is_left_behind_with_a_warning(
    tmp_path: Path, watch: Watch
) -> None:
    model = Slow(deaf=True)

    async def main() -> None:
        with pytest.warns(RuntimeWarning, match="does not stop when cancelled"):
            result = await conv.arun()
        assert result.status is Status.INTERRUPTED
        assert model.let_go is not None
        model.let_go.set()

    with talk(tmp_path, watch, model=model, interrupt=Interrupt(0.1, 0.1)) as conv:
        soon(lambda: (model.asked.wait(), conv.interrupt()))
        asyncio.run(main())


def test_a_run_is_not_disturbed_by_listeners_that_raise(tmp_path: Path, watch: Watch) -> None:
    def broken(*anything: Any) -> None:
        raise RuntimeError("broken")

    more = {"on_event": broken, "on_output": broken}
    with talk(tmp_path, watch, shell("echo hi"), FINAL, **more) as conv:
        with pytest.warns(RuntimeWarning, match="broken"):
            result = conv.run()
        assert result.status is Status.DONE
        assert talking.ends(conv)["call_1_1"].content == "hi\n"


# --- closing --------------------------------------------------------------------------------


def test_closing_from_another_thread_stops_the_run(tmp_path: Path, watch: Watch, mark: str) -> None:
    conv = talk(tmp_path, watch, shell(sleeper(mark)), FINAL)
    seen: list[Any] = []

    def strike() -> None:
        watch.wait_up()
        conv.close()
        seen.append(observer.marked(mark))
        seen.append(type(conv.events[-1]))

    thread = soon(strike)
    result = conv.run()
    thread.join()
    assert seen == [[], SegmentEnded]
    assert result.status is Status.INTERRUPTED
    assert conv.cancel_token is not None
    assert conv.cancel_token.reason is CancelReason.CLOSED
    check_record(conv, Status.INTERRUPTED)


def test_closing_in_the_loop_stops_the_run(tmp_path: Path, watch: Watch, mark: str) -> None:
    async def main() -> None:
        async with talk(tmp_path, watch, shell(sleeper(mark)), FINAL) as conv:
            task = asyncio.create_task(conv.arun())
            await asyncio.get_running_loop().run_in_executor(None, watch.wait_up)
        assert observer.marked(mark) == []
        assert (await task).status is Status.INTERRUPTED
        check_record(conv, Status.INTERRUPTED)

    asyncio.run(main())


def test_closing_in_a_callback_stops_the_run(tmp_path: Path, watch: Watch, mark: str) -> None:
    conv = talk(tmp_path, watch, shell(sleeper(mark)), FINAL)
    watch.also = lambda event: conv.close() if isinstance(event, Started) else None
    result = conv.run()
    assert result.status is Status.INTERRUPTED
    assert observer.marked(mark) == []
    check_record(conv, Status.INTERRUPTED)
    conv.close()
