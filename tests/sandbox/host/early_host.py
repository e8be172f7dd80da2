"""A program that starts a sandbox's first process, and is to be killed.

Arguments: workspace, kind of plan, and when: "before the plan", "as the plan comes", "open".
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts


async def main(workspace: Path, kind: PlanKind, when: str) -> None:
    cell = Cell(grace=60, term=60)
    cell.start()
    if when != "before the plan":
        cell.set_plan(
            make_plan(Policy(plan=kind.value), host_facts(), workspace=workspace, kind=kind)
        )
        opening = asyncio.create_task(cell.open())
        if when == "open":
            await opening
    print("up", flush=True)
    await asyncio.sleep(300)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), PlanKind(sys.argv[2]), sys.argv[3]))
