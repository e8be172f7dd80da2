"""A long conversation with a provider, and the same requests of litellm alone.

    python models.py turns|bare URL COUNT FOLDER

They run in processes of their own; `bench/suites/turns.py` starts them.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parents[2]))
sys.path.append(str(Path(__file__).resolve().parents[2] / "support"))

from costs_models import MODEL, conversation_with, large_processes, memory_of
from sandbox_agent.models.provider import ProviderModel


class Timed(ProviderModel):
    """Knows when it was asked, and when it had its answers."""

    def __init__(self, base: str) -> None:
        super().__init__(MODEL, api_base=base)
        self.asked: list[float] = []
        self.busy: list[float] = []
        self.answered: list[float] = []
        self.last: Any = None

    async def _send(self, ask: Any, *more: Any) -> Any:
        self.asked.append(time.monotonic())
        self.busy.append(time.process_time())
        self.last = ask
        answer = await super()._send(ask, *more)
        self.answered.append(time.monotonic())
        return answer


def turns(base: str, count: int, folder: Path) -> None:
    """One conversation of so many turns; writes what it measured to `turns.json`."""
    model = Timed(base)
    work = folder / "work"
    work.mkdir()
    budgets = {"turns": count, "repeats": None}
    with conversation_with(work, base, model=model, budgets=budgets) as conversation:
        conversation.send_message("Do the same again and again.")
        status = conversation.run().status
        assert status == "budget", status
        sizes = {"agent": memory_of("self", "VmHWM")}
        sizes["model process"] = max(
            memory_of(pid, "VmHWM") for pid in large_processes(os.getpid())
        )
    found = {
        "asked": model.asked,
        "answered": model.answered,
        "busy": model.busy,
        "memory": sizes,
        "messages": json.loads(model.last.messages),
        "tools": json.loads(model.last.tools),
    }
    (folder / "turns.json").write_text(json.dumps(found))


def bare(base: str, count: int, folder: Path) -> None:
    """litellm alone, asked with the same messages."""
    import litellm

    said = json.loads((folder / "turns.json").read_text())
    messages, tools = said["messages"], said["tools"]

    async def main() -> None:
        for turn in range(count):
            stream = await litellm.acompletion(
                model=MODEL,
                messages=messages[: 2 + 2 * turn],
                tools=tools,
                api_base=base,
                stream=True,
                stream_options={"include_usage": True},
                num_retries=0,
                max_retries=0,
            )
            async for _ in stream:
                pass

    asyncio.run(main())
    os._exit(0)


if __name__ == "__main__":
    {"turns": turns, "bare": bare}[sys.argv[1]](sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
