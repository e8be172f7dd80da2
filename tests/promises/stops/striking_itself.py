"""An agent that kills itself with SIGKILL at one chosen moment. Run as a script, by path.

    striking_itself.py FOLDER WHERE N

WHERE is one of BOUNDARIES, N counts from 1 how often the agent has come there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from sandbox_agent.journal.file import JournalWriter, encode
from sandbox_agent.journal.history import Message
from sandbox_agent.journal.result_file import RecordFile
from sandbox_agent.models import Model, ModelCall, ModelTurn
from sandbox_agent_sandbox.host import cell
from sandbox_agent_sandbox.host.call_io import CallIO
from sandbox_agent_sandbox.host.sandbox_process import SandboxProcess

WRITES = 20
"""Events that the journal of a whole run holds."""
CALLS = 4
RECORDS = 2
BOUNDARIES = {
    "before-write": WRITES,
    "torn-write": WRITES,
    "after-write": WRITES,
    "before-send": CALLS,
    "after-send": CALLS,
    "before-record": RECORDS,
    "after-record": RECORDS,
}
"""Every write to the journal and the record, and both sides of handing a call to the sandbox."""

COUNTED = ("a", "b", "c")
"""What each of the model's calls adds a line to, when it runs."""
VERIFY = "echo x >> count.verify"


def count(name: str) -> str:
    return f"echo x >> count.{name}; echo {name} ran"


def shell(*names: str) -> ModelTurn:
    return ModelTurn("", tuple(ModelCall("shell", {"command": count(name)}) for name in names))


TURNS = (shell("a", "b"), shell("c"), ModelTurn("All ran.", final=True))


class Recording(Model):
    """A model that keeps every request. Its turns follow from the history alone."""

    name = "recording"

    def __init__(self) -> None:
        self.requests: list[tuple[Message, ...]] = []

    async def complete(
        self, history: Sequence[Message], tools: Any, token: Any, on_delta: Any
    ) -> ModelTurn:
        self.requests.append(tuple(history))
        taken = sum(type(message).__name__ == "AssistantMessage" for message in history)
        return TURNS[taken]


def options(folder: Path) -> dict[str, Any]:
    work = folder / "work"
    return {"tools": ["shell"], "workspace": work, "sandbox": None, "verify": [VERIFY]}


class Striker:
    """Counts arrivals at one boundary, and ends this process at the chosen one."""

    def __init__(self, where: str, number: int) -> None:
        self.where = where
        self.left = number

    def here(self, where: str) -> bool:
        self.left -= where == self.where
        return where == self.where and self.left == 0

    def at(self, where: str) -> None:
        if self.here(where):
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, before: str, after: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def struck(*args: Any, **more: Any) -> Any:
            self.at(before)
            result = function(*args, **more)
            self.at(after)
            return result

        return struck

    def lie_in_wait(self) -> None:
        append = JournalWriter.append
        begin_call = SandboxProcess.begin_call
        call = cell.Cell.call

        def strike_append(writer: Any, event: Any) -> None:
            self.at("before-write")
            if self.here("torn-write"):
                line = encode(event)
                os.write(writer._fd, line[: len(line) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            append(writer, event)
            self.at("after-write")

        adopt = CallIO._adopt

        def strike_adopt(call: Any, *args: Any) -> bool:
            is_sent = adopt(call, *args)
            if is_sent:
                self.at("after-send")
            return is_sent

        def strike_begin_call(process: Any, *args: Any) -> str:
            why = begin_call(process, *args)
            self.at("after-send")
            return why

        async def strike_call(room: Any, *args: Any, **more: Any) -> Any:
            self.at("before-send")
            return await call(room, *args, **more)

        JournalWriter.append = strike_append  # type: ignore[method-assign]
        CallIO._adopt = strike_adopt  # type: ignore[method-assign]
        SandboxProcess.begin_call = strike_begin_call  # type: ignore[method-assign]
        cell.Cell.call = strike_call  # type: ignore[method-assign]
        commit = self.around("before-record", "after-record", RecordFile.commit)
        RecordFile.commit = commit  # type: ignore[method-assign]


def main(folder: Path, where: str, number: int) -> None:
    from sandbox_agent import Conversation

    Striker(where, number).lie_in_wait()
    (folder / "work").mkdir(parents=True)
    made = Conversation(model=Recording(), output_dir=folder / "runs", **options(folder))
    with made as conversation:
        conversation.send_message("go")
        result = conversation.run()
    print(json.dumps(msgspec.to_builtins(result.record)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
