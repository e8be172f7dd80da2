"""A worker that dies, at any moment, in any way: one truthful result."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import births
import msgspec
import pytest
from sandbox_agent_sandbox.outcome import CallResult, Outcome, Rung, StartedState
from sandbox_agent_sandbox.plan import Plan
from sandboxes import run
from striking import (
    GENERATIONS,
    WORKERS_KEEPER,
    Case,
    Told,
    opened,
    plan_for,
    process_called,
)
from table import HAS_ENOUGH, Death, How, When, Who, deaths

GRACE, TERM = 0.15, 0.15
TIME = 0.5
"""Seconds that a call has which would never end by itself."""

YES, NO = StartedState.YES, StartedState.NO
FLAG, AT_TERM, KILL = Rung.FLAG, Rung.TERM, Rung.KILL


def crashed(started: StartedState, detail: str) -> Told:
    return Told(Outcome.CRASHED, started, detail)


def timed_out(started: StartedState, rung: Rung) -> Told:
    return Told(Outcome.TIMEOUT, started, "its time was up; limit: timeout ...", rung)


TORN = "its worker broke the protocol: the stream ended ..."
"""Only where nothing is known that explains it."""

STATUS = "its worker exited with status {} before it gave a result"
BY_SIGKILL = (
    "its worker was ended by SIGKILL: a process of this call sent it, or it came from outside, "
    "or memory ran out"
)
ERROR = Told(Outcome.ERROR, YES, "")
UNIMPORTED = Told(Outcome.ERROR, NO, "")
OK = Told(Outcome.OK, YES, "")
CANCELLED = Told(Outcome.CANCELLED, YES, "interrupt", FLAG)
TERMINATED = Told(Outcome.CANCELLED, YES, "interrupt", AT_TERM)
KILLED = Told(Outcome.KILLED, YES, "interrupt", KILL)

TABLE: dict[tuple[When, How], Told] = {
    (When.HANDSHAKE, How.EXCEPTION): crashed(NO, ""),
    (When.HANDSHAKE, How.SIGKILL): crashed(NO, BY_SIGKILL),
    (When.HANDSHAKE, How.SIGSTOP): timed_out(NO, AT_TERM),
    (When.HANDSHAKE, How.MEMORY): crashed(NO, ""),
    (When.MID_FRAME, How.EXIT): crashed(YES, STATUS.format(3)),
    (When.MID_FRAME, How.EXCEPTION): crashed(YES, TORN),
    (When.MID_FRAME, How.SIGKILL): crashed(YES, BY_SIGKILL),
    (When.MID_FRAME, How.SIGSTOP): timed_out(YES, AT_TERM),
    (When.MID_FRAME, How.HANG): timed_out(YES, AT_TERM),
    (When.MID_FRAME, How.MEMORY): crashed(YES, TORN),
    (When.BEFORE_START, How.EXIT): crashed(NO, STATUS.format(3)),
    (When.BEFORE_START, How.EXCEPTION): UNIMPORTED,
    (When.BEFORE_START, How.SIGKILL): crashed(NO, BY_SIGKILL),
    (When.BEFORE_START, How.SIGSTOP): timed_out(NO, AT_TERM),
    (When.BEFORE_START, How.HANG): timed_out(NO, AT_TERM),
    (When.BEFORE_START, How.MEMORY): UNIMPORTED,
    (When.MID_OUTPUT, How.EXIT): crashed(YES, STATUS.format(3)),
    (When.MID_OUTPUT, How.EXCEPTION): ERROR,
    (When.MID_OUTPUT, How.SIGKILL): crashed(YES, BY_SIGKILL),
    (When.MID_OUTPUT, How.SIGSTOP): timed_out(YES, AT_TERM),
    (When.MID_OUTPUT, How.HANG): timed_out(YES, AT_TERM),
    (When.MID_OUTPUT, How.MEMORY): ERROR,
    (When.AFTER_FLAG, How.EXIT): CANCELLED,
    (When.AFTER_FLAG, How.EXCEPTION): CANCELLED,
    (When.AFTER_FLAG, How.SIGKILL): CANCELLED,
    (When.AFTER_FLAG, How.SIGSTOP): TERMINATED,
    (When.AFTER_FLAG, How.HANG): TERMINATED,
    (When.AFTER_FLAG, How.MEMORY): CANCELLED,
    (When.AFTER_TERM, How.EXIT): TERMINATED,
    (When.AFTER_TERM, How.EXCEPTION): TERMINATED,
    (When.AFTER_TERM, How.SIGKILL): TERMINATED,
    (When.AFTER_TERM, How.SIGSTOP): KILLED,
    (When.AFTER_TERM, How.HANG): KILLED,
    (When.AFTER_TERM, How.MEMORY): TERMINATED,
    # The result is given: how the process goes is of no account any more.
    (When.AT_EXIT, How.EXIT): OK,
    (When.AT_EXIT, How.EXCEPTION): OK,
    (When.AT_EXIT, How.SIGKILL): OK,
    (When.AT_EXIT, How.SIGSTOP): OK,
    (When.AT_EXIT, How.HANG): OK,
    (When.AT_EXIT, How.MEMORY): OK,
}

CONTENT = {
    (When.HANDSHAKE, How.EXCEPTION): "its worker could not begin: ",
    (When.HANDSHAKE, How.MEMORY): "its worker could not begin: there is not enough memory; hint: ",
    (When.BEFORE_START, How.EXCEPTION): "cannot be imported: RuntimeError: gone wrong",
    (When.BEFORE_START, How.MEMORY): "cannot be imported: MemoryError",
    (When.MID_OUTPUT, How.EXCEPTION): "RuntimeError: gone wrong",
    (When.MID_OUTPUT, How.MEMORY): "MemoryError",
}
"""What the model is told, where an error was caught."""

STATUSES = {How.EXIT: 3, How.SIGKILL: -9}
"""Of workers that ended without a result, as waitpid had it, also while they were being stopped."""


@pytest.mark.parametrize("death", list(deaths(Who.WORKER)), ids=str)
def test_a_worker_dies(tmp_path: Path, death: Death) -> None:
    told = TABLE[death.when, death.how]
    result, output = die(tmp_path, death)
    if (death.when, death.how) == (When.HANDSHAKE, How.MEMORY):
        if result.outcome is Outcome.ERROR:  # enough to begin with, and to say what is missing
            assert "memory" in f"{result.content} {result.detail} {result.output}".lower()
        if result.outcome in (Outcome.OK, Outcome.ERROR):
            pytest.skip(HAS_ENOUGH)
    told.check(result)
    assert result.made or result.started is StartedState.NO
    if death.when is When.HANDSHAKE:
        assert result.made is (result.outcome is Outcome.TIMEOUT)
        assert CONTENT.get((death.when, death.how), "") in result.content
        return
    assert output.startswith("half "), "output up to the end is kept"
    if told.outcome is Outcome.OK:
        assert result.content == "whole"
    assert CONTENT.get((death.when, death.how), "") in result.content
    if told.outcome is Outcome.CRASHED:
        assert result.exit_status == STATUSES.get(death.how, 0)
    elif told.outcome is Outcome.KILLED:
        assert result.exit_status is None, "nobody was left to wait for it"
    elif told.outcome is Outcome.CANCELLED:
        assert result.exit_status == STATUSES.get(death.how)


def die(workspace: Path, death: Death) -> tuple[CallResult, str]:
    if death.when is When.HANDSHAKE:
        return die_in_the_handshake(workspace, death.how), ""

    async def main() -> tuple[CallResult, str]:
        patience = 20 if death.how is How.MEMORY else 0  # eating takes as long as it takes
        grace, term = patience or GRACE, patience or TERM
        async with opened(plan_for(workspace), grace=grace, term=term) as cell:
            on_ladder = death.when in (When.AFTER_FLAG, When.AFTER_TERM)
            time = None if on_ladder else patience or TIME
            with Case(cell, workspace, death.when, death.how, timeout=time) as case:
                await case.on_the_ladder()
                return await case.result(), case.output.decode()

    return run(main)


def die_in_the_handshake(workspace: Path, how: How) -> CallResult:
    def change(plan: Plan) -> Plan:
        limits = plan.limits
        if how is How.EXCEPTION:  # no rlimit is as high
            limits = msgspec.structs.replace(limits, file_size=2**63 + 1)
        elif how is How.MEMORY:
            limits = msgspec.structs.replace(limits, process_memory=1)
        return msgspec.structs.replace(plan, limits=limits)

    async def main() -> CallResult:
        async with opened(plan_for(workspace, change), grace=GRACE, term=TERM) as cell:
            if how not in (How.SIGKILL, How.SIGSTOP):
                with Case(cell, workspace, When.MID_OUTPUT, "well") as case:
                    return await case.result()
            if os.geteuid() != 0:
                pytest.skip("needs root")
            strike = births.kill if how is How.SIGKILL else births.stop
            with (
                births.Birth(process_called(WORKERS_KEEPER).pid, GENERATIONS, strike) as birth,
                Case(cell, workspace, When.MID_OUTPUT, "well", timeout=TIME) as case,
            ):
                await asyncio.to_thread(birth.join, 20)
                return await case.result()

    return run(main)
