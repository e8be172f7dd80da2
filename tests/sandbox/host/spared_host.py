"""A program whose sandbox keeps spares, and that is to be killed. Arguments: workspace, kind of
plan. It says "up" once they wait."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import spared
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts


async def main(workspace: Path, kind: PlanKind) -> None:
    plan = make_plan(Policy(plan=kind.value), host_facts(), workspace=workspace, kind=kind)
    cell = Cell(plan, grace=60, term=60, spares=3)
    await cell.open()
    await spared.until_waiting(cell, 3)
    print("up", flush=True)
    await asyncio.sleep(300)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), PlanKind(sys.argv[2])))
