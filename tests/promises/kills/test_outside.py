"""Call init, init and spawner struck from outside, while a call is at a certain moment."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from dataclasses import replace
from pathlib import Path

import observer
import pytest
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_sandbox.errors import SandboxBroken
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.host.deadlines import Deadlines
from sandbox_agent_sandbox.outcome import CallResult, Outcome, Rung, StartedState
from sandboxes import command, run
from striking import Case, Told, opened, plan_for, process_called
from table import HAS_ENOUGH, SERVING, Death, How, When, Who, deaths

YES, NO = StartedState.YES, StartedState.NO
FLAG, TERM, KILL = Rung.FLAG, Rung.TERM, Rung.KILL

OK = Told(Outcome.OK, YES, "")

LOST = "its processes were killed from outside, or the machine ran out of memory"
KILLED: dict[When, Told] = {
    When.BEFORE_START: Told(Outcome.CRASHED, NO, LOST),
    When.MID_OUTPUT: Told(Outcome.CRASHED, YES, LOST),
    When.AFTER_FLAG: Told(Outcome.CANCELLED, YES, "interrupt", FLAG),
    When.AFTER_TERM: Told(Outcome.CANCELLED, YES, "interrupt", TERM),
    When.AT_EXIT: OK,
}
"""What a call comes to whose processes somebody kills at that moment."""

UNDISTURBED: dict[When, Told] = {
    When.BEFORE_START: OK,
    When.MID_OUTPUT: OK,
    When.AFTER_FLAG: KILLED[When.AFTER_FLAG],
    When.AFTER_TERM: KILLED[When.AFTER_TERM],
    When.AT_EXIT: OK,
}
"""What it comes to when it is let go on."""

WITHOUT_REAPER: dict[When, Told] = {
    **UNDISTURBED,
    When.AFTER_TERM: Told(Outcome.KILLED, YES, "interrupt", KILL),
}
"""When it is let go on under a call's init that is stopped, and so does not see the end. The host
ends this init once it has the result; where SIGTERM came before, only SIGKILL is left."""

NEXT = {
    How.EXIT: Told(Outcome.CRASHED, NO, "the sandbox died before the call's processes were made"),
    How.EXCEPTION: Told(
        Outcome.CRASHED,
        NO,
        "cannot start the call's processes: no more processes or threads can be started here...",
    ),
    How.MEMORY: Told(Outcome.CRASHED, NO, "the sandbox died before the call's processes were made"),
}
"""What the next call comes to, which is the one that provokes it."""

INIT_DIED = "the sandbox's init died; its calls died with it"
HUNG_UP = "the sandbox's init hung up: "


def cases() -> list[Death]:
    found = [d for who in (Who.CALL_INIT, Who.INIT, Who.SPAWNER) for d in deaths(who)]
    return [death for death in found if death.when in SERVING]


def expected(death: Death) -> Told:
    if death.how is How.SIGSTOP:
        table = WITHOUT_REAPER if death.who is Who.CALL_INIT else UNDISTURBED
        return table[death.when]
    if death.how is How.EXCEPTION:
        return UNDISTURBED[death.when]  # init answers the next call with it, and lives on
    return KILLED[death.when]


@pytest.mark.parametrize("death", cases(), ids=str)
def test_a_supervising_process_dies(tmp_path: Path, death: Death) -> None:
    # Time enough to strike while a worker that has given its result is still there.
    deadlines = Deadlines(finish=1.0)

    async def main() -> CallResult:
        plan = plan_for(tmp_path)
        stopped = death.who is Who.SPAWNER and death.how is How.SIGSTOP
        slack = 1.8 if stopped else 0.8  # a stopped spawner delays close() by a second at most
        async with opened(plan, grace=1.0, term=1.0, slack=slack, deadlines=deadlines) as cell:
            with Case(cell, tmp_path, death.when, "from outside") as case:
                await case.on_the_ladder()
                await case.heard(b"now")
                case.await_exit()
                await strike(death, cell, tmp_path)
                if death.how in (How.SIGSTOP, How.EXCEPTION):
                    case.release()
                result = await case.result()
                assert case.output.startswith(b"half "), "output up to the end is kept"
            await afterwards(death, cell, tmp_path)
        return result

    expected(death).check(run(main))


async def strike(death: Death, cell: Cell, workspace: Path) -> None:
    pid = process_called(death.who).pid
    if death.how is How.SIGKILL:
        os.kill(pid, signal.SIGKILL)
    elif death.how is How.SIGSTOP:
        # The ladder continues a call's init after its SIGTERM. That must not undo this.
        ladder = cell._supervisor._thread.native_id
        task = Path(f"/proc/self/task/{ladder}/stat")
        observer.eventually(lambda: ") S " in task.read_text(), 20)
        os.kill(pid, signal.SIGSTOP)
    else:
        starve(pid, death.how)
        result = await cell.call(command(workspace, "true"))
        made = result.outcome is Outcome.ERROR or "its worker could not begin" in result.content
        if death.how is How.MEMORY and made:
            pytest.skip(HAS_ENOUGH)  # init made the call, and then its worker or bash had none
        NEXT[death.how].check(result)


def starve(pid: int, how: How) -> None:
    """Take away what init needs for its next call."""
    if how is How.EXIT:
        # The call's descriptors do not arrive. What is not the protocol ends init.
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 3))
    elif how is How.EXCEPTION:
        resource.prlimit(pid, resource.RLIMIT_NPROC, (0, 0))  # no fork
    elif how is How.MEMORY:
        resource.prlimit(pid, resource.RLIMIT_DATA, (1, 1))


async def afterwards(death: Death, cell: Cell, workspace: Path) -> None:
    """What the sandbox is good for once it was struck."""
    if death.who is Who.CALL_INIT:
        result = await cell.call(command(workspace, "echo next"))
        assert (result.outcome, result.output) == (Outcome.OK, "next\n")
    elif death.how not in (How.SIGSTOP, How.EXCEPTION):
        with pytest.raises(SandboxBroken) as broken:
            async with asyncio.timeout(20):
                while True:  # its calls may end a moment before init itself does
                    result = await cell.call(command(workspace, "true"))
                    hung_up = result.detail.startswith(HUNG_UP)  # which may be seen first
                    told = NEXT[How.EXIT]
                    (replace(told, detail=f"{HUNG_UP}...") if hung_up else told).check(result)
        assert str(broken.value) == INIT_DIED or str(broken.value).startswith(HUNG_UP)


@pytest.mark.parametrize("who", ["init", "spawner"])
def test_the_ladder_keeps_its_times_under_a_stopped_supervisor(tmp_path: Path, who: str) -> None:
    mark = observer.new_mark()

    async def main() -> CallResult:
        async with opened(plan_for(tmp_path), grace=0.2, term=0.2, slack=1.8) as cell:
            text = f"trap '' INT TERM; (setsid sleep 300.{mark} &); sleep 300.{mark}; sleep 300"
            with Case(cell, tmp_path, When.MID_OUTPUT, "from outside") as bystander:
                await bystander.heard(b"now")
                request = command(tmp_path, text)
                task = asyncio.create_task(cell.call(request))
                await asyncio.to_thread(
                    observer.eventually, lambda: len(observer.marked(mark)) >= 3, 20
                )
                os.kill(process_called(who).pid, signal.SIGSTOP)
                assert cell.cancel(request.id, CancelReason.INTERRUPT)
                result = await task
                assert observer.marked(mark) == []
                bystander.release()
                assert (await bystander.result()).outcome is Outcome.OK
            return result

    result = run(main)
    assert (result.outcome, result.rung) == (Outcome.KILLED, KILL)
    times = result.rungs_ms
    assert 190 <= times["term"] <= 300
    assert 190 <= times["kill"] - times["term"] <= 300
    assert times["ended"] - times["kill"] <= 150
