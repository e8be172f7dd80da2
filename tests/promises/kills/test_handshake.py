"""Call init, init and spawner that die before they have said that they are there."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import births
import msgspec
import observer
import pytest
from sandbox_agent_sandbox.errors import SandboxBroken, SandboxError, SandboxUnavailable
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.host.deadlines import Deadlines
from sandbox_agent_sandbox.outcome import CallResult, Outcome, Rung, StartedState
from sandbox_agent_sandbox.plan import Identity, Plan, Symlink
from sandboxes import run
from striking import Case, Told, opened, plan_for, process_called
from table import HAS_ENOUGH, Death, How, When, Who, deaths

NO = StartedState.NO
LOST = "its processes were killed from outside, or the machine ran out of memory"

CALL_INIT: dict[How, Told] = {
    How.EXCEPTION: Told(
        Outcome.CRASHED,
        NO,
        "cannot start the call's processes: no more processes or threads can be started here...",
    ),
    How.SIGKILL: Told(Outcome.CRASHED, NO, LOST),
    # The SIGTERM rung continues it: it passes the signal on to its worker, which dies of it.
    How.SIGSTOP: Told(Outcome.TIMEOUT, NO, "its time was up; limit: timeout ...", Rung.TERM),
}

UNBUILDABLE = "the sandbox cannot be built: "
SPAWNER_DIED = (f"{UNBUILDABLE}the sandbox's spawner died", "the sandbox's spawner died")
SPAWNER_KILLED = f"{UNBUILDABLE}the sandbox's spawner was ended by SIGKILL"
INIT_DIED = ("the sandbox's init died", "the sandbox's init hung up")
"""Its pidfd and its socket tell of the end at the same time: either may be heard first."""
PATIENCE = 3.0
"""Seconds for the building of a sandbox that gets stuck. A busy machine takes one until then."""
TOO_LONG = f"building the sandbox took over {PATIENCE:g} s"

OPENING: dict[tuple[Who, How], str | tuple[str, ...]] = {
    (Who.SPAWNER, How.EXIT): UNBUILDABLE,
    (Who.SPAWNER, How.EXCEPTION): SPAWNER_DIED,
    (Who.SPAWNER, How.SIGKILL): (*SPAWNER_DIED, SPAWNER_KILLED),
    # Stopped before its exec, it is killed when the time is up.
    (Who.SPAWNER, How.SIGSTOP): (TOO_LONG, *SPAWNER_DIED, SPAWNER_KILLED),
    # Its fork is refused, the interpreter says that it has no memory, or its start is a fault.
    (Who.SPAWNER, How.MEMORY): (
        *SPAWNER_DIED,
        f"{UNBUILDABLE}the sandbox's spawner was ended by SIGSEGV",
        f"{UNBUILDABLE}cannot start the sandbox: no more memory",
        f"{UNBUILDABLE}cannot start the spawner: there is not enough memory",
    ),
    (Who.INIT, How.EXIT): UNBUILDABLE,
    (Who.INIT, How.EXCEPTION): INIT_DIED,
    (Who.INIT, How.SIGKILL): INIT_DIED,
    (Who.INIT, How.SIGSTOP): TOO_LONG,
}
"""What opening the sandbox says, which is an error of exit code 5 whichever it is."""


BY_THEMSELVES = [
    Death(When.HANDSHAKE, Who.INIT, How.MEMORY),
    Death(When.HANDSHAKE, Who.INIT, How.HANG),
]
"""Cells with a test of their own, below."""


def cases(*who: Who) -> list[Death]:
    found = [death for one in who for death in deaths(one)]
    return [d for d in found if d.when is When.HANDSHAKE and d not in BY_THEMSELVES]


@pytest.mark.parametrize("death", cases(Who.CALL_INIT), ids=str)
def test_a_calls_init_dies_at_birth(tmp_path: Path, death: Death) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")

    async def main() -> CallResult:
        async with opened(plan_for(tmp_path), grace=0.15, term=0.5) as cell:
            init = process_called("init").pid
            if death.how is How.EXCEPTION:
                # Init itself and the call's init may be; the fork of the worker is refused.
                resource.prlimit(init, resource.RLIMIT_NPROC, (2, 2))
                with Case(cell, tmp_path, When.MID_OUTPUT, "well") as case:
                    return await case.result()
            strike = births.kill if death.how is How.SIGKILL else births.stop
            with (
                births.Birth(init, 1, strike) as birth,
                Case(cell, tmp_path, When.MID_OUTPUT, "well", timeout=0.5) as case,
            ):
                await asyncio.to_thread(birth.join, 20)
                return await case.result()

    CALL_INIT[death.how].check(run(main))


def unbuildable(death: Death) -> Callable[[Plan], Plan]:
    """A plan that the process fails at, where that is how it dies."""
    replace = msgspec.structs.replace

    def change(plan: Plan) -> Plan:
        match death.who, death.how:
            case Who.SPAWNER, How.EXIT:
                return replace(plan, identity=Identity(2**32 - 1, 1000, 2**32 - 1, 1000))
            case Who.SPAWNER, How.EXCEPTION:
                return replace(plan, network=7)
            case Who.INIT, How.EXIT:
                return replace(plan, symlinks=(Symlink("/proc/nowhere/link", "x"), *plan.symlinks))
            case Who.INIT, How.EXCEPTION:
                return replace(plan, symlinks=(Symlink("/nul", "\0"), *plan.symlinks))
        return plan

    return change


def strike_at_birth(how: How) -> Callable[[int], None]:
    def strike(pid: int) -> None:
        if how is How.MEMORY:
            resource.prlimit(pid, resource.RLIMIT_DATA, (1, 1))
        else:
            os.kill(pid, signal.SIGKILL if how is How.SIGKILL else signal.SIGSTOP)

    return strike


@pytest.mark.parametrize("death", cases(Who.SPAWNER, Who.INIT), ids=str)
def test_a_sandbox_dies_while_it_is_built(tmp_path: Path, death: Death) -> None:
    deadlines = Deadlines(open=PATIENCE) if death.how is How.SIGSTOP else Deadlines()
    struck = death.how in (How.SIGKILL, How.SIGSTOP, How.MEMORY)
    if struck and death.who is Who.INIT and os.geteuid() != 0:
        pytest.skip("needs root")

    async def main() -> SandboxError:
        plan = plan_for(tmp_path, unbuildable(death))
        cell = Cell(plan, grace=0.1, term=0.1, deadlines=deadlines)
        opening = asyncio.create_task(cell.open())
        if struck:
            await asyncio.to_thread(strike_soon, death)
        with pytest.raises(SandboxError) as error:
            async with asyncio.timeout(20):
                await opening
        assert cell.close() == ()
        assert not cell.usable
        return error.value

    error = run(main)
    assert isinstance(error, SandboxUnavailable | SandboxBroken)
    assert str(error).startswith(OPENING[death.who, death.how])


def strike_soon(death: Death) -> None:
    """As soon as there is a spawner, which takes its time to begin, strike it or its init."""
    before = os.getpid()
    [spawner] = observer.eventually(lambda: observer.descendants(before), 20)
    strike = strike_at_birth(death.how)
    if death.who is Who.SPAWNER:
        strike(spawner.pid)
        return
    with births.Birth(spawner.pid, 2, strike):  # its builder, and the builder's child
        pass


def test_an_init_without_memory_is_the_end_of_the_sandbox_by_the_first_call(tmp_path: Path) -> None:
    """init, handshake, out of memory: what it was forked with may just do until it serves."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    death = Death(When.HANDSHAKE, Who.INIT, How.MEMORY)

    async def main() -> str:
        cell = Cell(plan_for(tmp_path), grace=0.1, term=0.1)
        opening = asyncio.create_task(cell.open())
        try:
            await asyncio.to_thread(strike_soon, death)
            await opening
            with Case(cell, tmp_path, When.MID_OUTPUT, "well") as case:
                return (await case.result()).detail
        except SandboxError as error:
            return str(error)
        finally:
            assert cell.close() == ()

    said = run(main)
    if not said:
        pytest.skip(HAS_ENOUGH)
    assert said.startswith((*INIT_DIED, "the sandbox died before the call's processes were made"))


def test_a_call_that_init_never_makes_ends_and_the_sandbox_with_it(tmp_path: Path) -> None:
    """init, handshake, hang: it takes the order, and nothing comes of it."""
    deadlines = Deadlines(start=0.5)

    async def main() -> CallResult:
        async with opened(plan_for(tmp_path), grace=0.1, term=0.1, deadlines=deadlines) as cell:
            os.kill(process_called("init").pid, signal.SIGSTOP)
            with Case(cell, tmp_path, When.MID_OUTPUT, "well") as case:
                result = await case.result()
            with (
                pytest.raises(SandboxBroken, match="init does not make a call's processes"),
                Case(cell, tmp_path, When.MID_OUTPUT, "well") as case,
            ):
                await case.result()
            return result

    Told(Outcome.CRASHED, NO, "the sandbox died before the call's processes were made").check(
        run(main)
    )


def test_a_call_that_init_never_makes_can_be_cancelled(tmp_path: Path) -> None:
    async def main() -> CallResult:
        async with opened(plan_for(tmp_path), grace=0.1, term=0.1) as cell:
            os.kill(process_called("init").pid, signal.SIGSTOP)
            with Case(cell, tmp_path, When.MID_OUTPUT, "well", timeout=0.1) as case:
                return await case.result()

    Told(Outcome.TIMEOUT, NO, "its time was up; limit: timeout ...", Rung.KILL).check(run(main))
