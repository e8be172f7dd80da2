"""A program with a session that talks, and may be silent for half a second. It is to be stopped."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sandbox_agent_ipc.messages import FunctionRef
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.host.session import Patience
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts


async def main() -> None:
    here = Path(__file__).resolve().parent
    cell = Cell(
        make_plan(Policy(), host_facts(), workspace=None, tool_paths=[here]), grace=60, term=60
    )
    await cell.open()
    session = await cell.session(FunctionRef("serving_module", "serve"), {})

    def hear(piece: bytes) -> None:
        if piece == b"0":
            print("up", flush=True)

    answer = await session.ask(b"talk", Patience(60, 60, silence=0.5), on_reply=hear)
    print(answer.body, answer.reason, cell.close())


if __name__ == "__main__":
    asyncio.run(main())
