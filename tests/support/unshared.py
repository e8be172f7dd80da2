"""Sandboxes without namespaces, for tests of their processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import observer
import pytest
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.host.spawner import program
from sandbox_agent_sandbox.outcome import CallResult
from sandbox_agent_sandbox.plan import Access, Identity, Landlock, Plan, PlanKind
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from sandboxes import command

PYTHON = "/usr/bin/python3"
EVERYTHING = Landlock((Access("/", 0xFFFF),))


def plan_for(workspace: Path, **policy: Any) -> Plan:
    """A plan whose view is the host's, for tests of processes."""
    plan = make_plan(
        Policy(**policy), host_facts(), workspace=workspace, kind=PlanKind.NO_NAMESPACES
    )
    user, group = os.geteuid(), os.getegid()
    identity = Identity(user, group, user, group)
    # Without a listener that the plan relies on: some tests have no gate.
    without = msgspec.structs.replace(plan.unshared, listener=False, looked_at=())
    return msgspec.structs.replace(plan, identity=identity, landlock=EVERYTHING, unshared=without)


@contextlib.asynccontextmanager
async def unshared(
    workspace: Path, *, grace: float = 0.1, term: float = 0.1, **policy: Any
) -> AsyncIterator[Cell]:
    """An open sandbox without namespaces, closed in the end."""
    cell = Cell(plan_for(workspace, **policy), grace=grace, term=term)
    await cell.open()
    try:
        yield cell
    finally:
        assert cell.close() == ()


def keepers(name: str) -> list[int]:
    """The pids of our keepers of this name, below this process."""
    return [one.pid for one in observer.descendants(os.getpid()) if _name(one.pid) == name]


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def marked(mark: int) -> list[int]:
    """Live processes whose hard RLIMIT_LOCKS is this, as /proc shows it."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            limits = Path(f"/proc/{name}/limits").read_text()
            line = next(one for one in limits.splitlines() if one.startswith("Max file locks"))
            if line.split()[4] == str(mark) and observer.look(int(name)) is not None:
                found.append(int(name))
    return found


def kill(pid: int, number: signal.Signals) -> None:
    """A signal, also to a process that has just ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


async def with_tools_up(
    cell: Cell, workspace: Path, text: str
) -> tuple[str, asyncio.Task[CallResult]]:
    """A call's id and its task, once it has printed "up"."""
    is_up, output = asyncio.Event(), bytearray()

    def on_output(stream: str, data: bytes) -> None:
        output.extend(data)
        if b"up\n" in output:
            is_up.set()

    request = command(workspace, text, on_output=on_output)
    call = asyncio.create_task(cell.call(request))
    waiting = asyncio.create_task(is_up.wait())
    async with asyncio.timeout(30):
        await asyncio.wait({call, waiting}, return_when=asyncio.FIRST_COMPLETED)
    assert is_up.is_set(), (output, call)
    return request.id, call


def inside() -> list[observer.Process]:
    """The processes of calls: what is below the supervisors, but for the starters."""
    found = [one for pid in keepers("sandbox-call") for one in observer.descendants(pid)]
    starters = keepers("sandbox-starter")
    return [one for one in found if one.pid not in starters]


def alive(processes: list[observer.Process]) -> list[observer.Process]:
    """Those that have not ended; their parents may be others by now."""
    now = ((one, observer.look(one.pid)) for one in processes)
    return [one for one, found in now if found is not None and found.start == one.start]


def pretend(patch: pytest.MonkeyPatch, *, abi: int | None = None, gate: bool = True) -> None:
    """Sandboxes that are opened from now on do without what an older kernel has not.

    abi: the version of Landlock that they find. gate: whether they can have a listener of their
    own, as a sandbox in another one of this kind cannot.
    """
    begin = "import sandbox_agent_sandbox.inside.walls.landlock as landlock; "
    if abi is not None:
        begin += f"landlock.landlock_abi = lambda: {abi}; "
    if not gate:
        begin += "import sandbox_agent_sandbox.inside.unshared.gate as gate; gate._NUMBERS = {}; "
    boot = program.BOOT.replace("from sandbox_agent", begin + "from sandbox_agent", 1)
    patch.setattr(program, "BOOT", boot)


KERNELS: dict[str, dict[str, Any]] = {
    "scopes": {},
    "no scopes": {"abi": 4},
}
"""What the processes of this plan have to do with: the arguments of `pretend`."""
