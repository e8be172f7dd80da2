"""An agent that goes wrong: `agent.py FOLDER WHEN HOW`. A program of its own, struck by itself.

It runs one call, and at the moment WHEN it exits, raises, kills or stops itself, or blocks its
event loop. On standard output it says what came of it, as far as it gets.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from sandbox_agent.config.settings import Interrupt
from sandbox_agent.conversation import Conversation
from sandbox_agent.journal.events import AnyEvent, SegmentEnded, Started
from sandbox_agent.models import ModelCall, ModelTurn
from sandbox_agent.models.scripted import ScriptedModel, Step

BLOCKED = 0.6
"""Seconds that the event loop hangs: more than the whole ladder takes."""

GRACE, TERM = 0.15, 0.15


class Agent:
    def __init__(self, folder: Path, when: str, how: str) -> None:
        self.when = when
        self.how = how
        self.over = asyncio.Event()
        name = "quick" if when == "at exit" else "tool"
        module = "waiting_import" if when == "before start" else "waiting"
        # Only where the agent is to live on do the rungs follow soon.
        patient = how not in ("hang", "exception")
        self.conversation = Conversation(
            model=ScriptedModel(
                [
                    Step(ModelTurn("", (ModelCall(name, {}),))),
                    Step(ModelTurn("Done.", final=True)),
                ]
            ),
            tools=[f"{module}:{name}"],
            workspace=folder / "work",
            output_dir=folder / "runs",
            interrupt=Interrupt(20.0, 20.0) if patient else Interrupt(GRACE, TERM),
            on_event=self.on_event,
            on_output=self.on_output,
        )
        self.conversation.send_message("go")

    def on_event(self, event: AnyEvent) -> None:
        if isinstance(event, SegmentEnded) and self.when == "at exit":
            self.go_wrong()
        if isinstance(event, Started) and self.when in ("after flag", "after TERM"):
            self.conversation.interrupt()

    def on_output(self, call: str, stream: str, data: bytes) -> None:
        for when, text in (
            ("before start", b"importing"),
            ("mid-output", b"begun"),
            ("after flag", b"flag"),
            ("after TERM", b"term"),
        ):
            if self.when == when and text in data:
                self.go_wrong()
        if self.when == "after TERM" and b"flag" in data:
            self.conversation.interrupt()  # the second one

    def go_wrong(self) -> None:
        if self.how == "exit":
            os._exit(3)
        elif self.how == "exception":
            self.over.set()
        elif self.how == "hang":
            self.hang()
        else:
            os.kill(os.getpid(), getattr(signal, self.how))

    def hang(self) -> None:
        """Block the loop while another thread interrupts: the ladder needs no loop."""
        threading.Thread(target=self.conversation.interrupt).start()
        time.sleep(BLOCKED)
        cell = self.conversation._host.cell
        idle = cell is None or cell.wait_idle(0)
        print(f"idle: {idle}", flush=True)

    async def main(self) -> None:
        run = asyncio.create_task(self.conversation.arun())
        if self.when == "handshake":
            await until_there_is_a_child()
            self.go_wrong()
        over = asyncio.create_task(self.over.wait())
        await asyncio.wait({run, over}, return_when=asyncio.FIRST_COMPLETED)
        if self.over.is_set():
            raise RuntimeError("gone wrong")
        over.cancel()
        result = await run
        print(f"ended: {result.status.value}", flush=True)


async def until_there_is_a_child() -> None:
    tasks = Path("/proc/self/task")
    while True:
        for task in tasks.iterdir():
            with suppress(FileNotFoundError):  # a thread that has ended
                if (task / "children").read_text():
                    return
        await asyncio.sleep(0)


async def start() -> None:
    agent = Agent(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
    try:
        await agent.main()
    finally:
        # Only with a living loop; whoever dies does not come by here.
        await asyncio.shield(agent.conversation.aclose())


if __name__ == "__main__":
    asyncio.run(start())
