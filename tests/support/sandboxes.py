"""Opening a real sandbox in a test."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import kinds
from sandbox_agent_ipc.messages import FunctionRef
from sandbox_agent_sandbox.host.cell import CallRequest, Cell
from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts

T = TypeVar("T")
SHELL = FunctionRef("sandbox_agent_sandbox.inside.tools.shell", "shell")
_ids = itertools.count(1)


@contextlib.asynccontextmanager
async def sandbox(
    workspace: Path, *, grace: float = 0.1, term: float = 0.1, spares: int = 2, **policy: Any
) -> AsyncIterator[Cell]:
    """An open sandbox over `workspace`, closed in the end. With spares, as a conversation's."""
    asked = Policy(**policy)
    kind = kinds.IN_FORCE if asked.plan == "auto" else PlanKind(asked.plan)
    plan = make_plan(asked, host_facts(), workspace=workspace, kind=kind)
    cell = Cell(plan, grace=grace, term=term, spares=spares)
    await cell.open()
    try:
        yield cell
    finally:
        assert cell.close() == ()


def command(workspace: Path, text: str, **more: Any) -> CallRequest:
    """A request that runs a shell command."""
    arguments = json.dumps({"command": text}).encode()
    return CallRequest(f"call-{next(_ids)}", SHELL, arguments, str(workspace), **more)


def function(
    workspace: Path, module: str, name: str, arguments: object, **more: Any
) -> CallRequest:
    """A request that runs any function."""
    return CallRequest(
        f"call-{next(_ids)}",
        FunctionRef(module, name),
        json.dumps(arguments).encode(),
        str(workspace),
        **more,
    )


def run(main: Callable[[], Coroutine[Any, Any, T]], limit: float = 60) -> T:
    """Run a test's coroutine under a deadline."""

    async def bounded() -> T:
        return await asyncio.wait_for(main(), limit)

    return asyncio.run(bounded())


async def until(condition: Callable[[], bool], limit: float = 20) -> None:
    """Wait for a condition that no event announces, looking often."""
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.005)
