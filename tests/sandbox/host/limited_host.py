"""A program whose two calls take too much memory while it stands still. No group keeps them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec
from sandbox_agent_ipc.messages import FunctionRef
from sandbox_agent_sandbox.host.cell import CallRequest, Cell
from sandbox_agent_sandbox.outcome import CallResult
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts

SHELL = FunctionRef("sandbox_agent_sandbox.inside.tools.shell", "shell")
GREEDY = """
import os, signal, sys
os.mkdir(f"up-{sys.argv[1]}")
open("go").close()
kept = b"x" * (200 << 20)
signal.pause()
"""


async def main(workspace: Path) -> None:
    (workspace / "greedy.py").write_text(GREEDY)
    policy = Policy(limits={"call_memory": "64MiB"})
    plan = make_plan(policy, host_facts(), workspace=workspace)
    cell = Cell(msgspec.structs.replace(plan, groups=None), grace=1, term=1)
    await cell.open()
    for result in await asyncio.gather(*(greedy(cell, workspace, number) for number in range(2))):
        print(result.outcome.value, *[met.limit for met in result.limits], flush=True)
    print(cell.close(), flush=True)


async def greedy(cell: Cell, workspace: Path, number: int) -> CallResult:
    command = {"command": f"exec /usr/bin/python3 -S greedy.py {number}"}
    arguments = msgspec.json.encode(command)
    return await cell.call(CallRequest(f"call-{number}", SHELL, arguments, str(workspace)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
