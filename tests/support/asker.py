"""`sandbox_agent.models.process.inside.completion` with the real litellm, in a process of its own.

Its import costs seconds, so tests share one. Requests run at the same time, in one event loop.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import msgspec
import paths
from sandbox_agent_ipc.model_messages import Answer, Ask, Failure, FailureKind, Piece

PATIENCE = 60.0
"""Seconds until a test gives up waiting for an event. Never a synchronisation."""
KEYS = {
    "OPENAI_API_KEY": "sk-test-1234567890abcd",
    "ANTHROPIC_API_KEY": "sk-ant-1234567890abcd",
    "GEMINI_API_KEY": "gm-1234567890abcd",
    "DEEPSEEK_API_KEY": "ds-1234567890abcd",
    "DEPLOY_TOKEN": "hunter2hunter2",
}
"""The environment of the process that the tests share."""
USER = {"role": "user", "content": "hi"}
TOOL = {
    "type": "function",
    "function": {
        "name": "shell",
        "description": "Runs a command.",
        "parameters": {"type": "object", "properties": {"command": {"type": "string"}}},
    },
}


class Command(msgspec.Struct, omit_defaults=True):
    """To the process. cancel: the request of that number."""

    number: int
    ask: Ask | None = None
    cancel: bool = False
    environ: dict[str, str] | None = None


class Told(msgspec.Struct, omit_defaults=True):
    """From the process. at: CLOCK_MONOTONIC seconds. tasks: names of what is left in its loop.
    longest: seconds that the loop was blocked since the last request began."""

    number: int
    at: float
    piece: Piece | None = None
    result: Answer | Failure | None = None
    raised: str = ""
    tasks: list[str] = []
    longest: float = 0.0


@dataclass
class Asked:
    """A request on its way, or over."""

    number: int
    pieces: list[Piece] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    end: Told | None = None

    def said(self, kind: str) -> list[str]:
        return [piece.text for piece in self.pieces if piece.kind == kind]


class Asker:
    """`with Asker() as asker: asker.answer("openai/gpt-4o", api_base=stub.openai_base)`."""

    def __init__(self, environ: dict[str, str]) -> None:
        clean = {name: value for name, value in os.environ.items() if "_API_" not in name}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**clean, **environ, "PYTHONPATH": os.pathsep.join(paths.IMPORT_PATHS)},
        )
        self._changed = threading.Condition()
        self._asked: list[Asked] = []
        self._over = False
        self._reader = threading.Thread(target=self._read, name="asker")
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the process that asks."""
        return self._process.pid

    def __enter__(self) -> Asker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()

    def begin(self, model: str, messages: Any = None, tools: Any = None, **fields: Any) -> Asked:
        """Have it asked. fields: of `Ask`; one attempt, if they do not say otherwise."""
        fields = {"retries": 0, "timeout": PATIENCE, **fields}
        ask = Ask(
            model=model,
            messages=messages if isinstance(messages, bytes) else _json(messages or [USER]),
            tools=tools if isinstance(tools, bytes) else _json([TOOL] if tools is None else tools),
            **fields,
        )
        asked = Asked(len(self._asked))
        self._asked.append(asked)
        self._send(Command(asked.number, ask))
        return asked

    def end(self, asked: Asked) -> Told:
        """Until it is over."""
        self._wait(lambda: asked.end is not None, f"the end of request {asked.number}")
        assert asked.end is not None
        return asked.end

    def answer(self, model: str, *args: Any, **fields: Any) -> Answer:
        result = self.end(self.begin(model, *args, **fields)).result
        assert isinstance(result, Answer), result
        return result

    def failure(self, model: str, *args: Any, **fields: Any) -> Failure:
        result = self.end(self.begin(model, *args, **fields)).result
        assert isinstance(result, Failure), result
        return result

    def cancel(self, asked: Asked) -> None:
        self._send(Command(asked.number, cancel=True))

    def wait_pieces(self, asked: Asked, count: int) -> None:
        self._wait(lambda: len(asked.pieces) >= count, f"{count} pieces")

    def set_environ(self, **environ: str) -> None:
        """Of the process, from the next request on. "" takes a variable out."""
        self._send(Command(-1, environ=environ))

    def _send(self, command: Command) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(_json(command) + b"\n")
        self._process.stdin.flush()

    def _wait(self, ready: Any, what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: ready() or self._over, PATIENCE):
                raise TimeoutError(f"{what} did not come")
            if not ready():
                raise AssertionError("the process that asks has died")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = msgspec.json.decode(line, type=Told)
            with self._changed:
                asked = self._asked[told.number]
                if told.piece is None:
                    asked.end = told
                else:
                    asked.pieces.append(told.piece)
                    asked.times.append(told.at)
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value) if value != [] else b""


# --- in the process ------------------------------------------------------------------------------


class _Loop:
    def __init__(self) -> None:
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._longest = 0.0

    async def run(self) -> None:
        from sandbox_agent.models.process.inside.completion import answer

        self._answer = answer
        beat = asyncio.create_task(self._beat())
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            command = msgspec.json.decode(line, type=Command)
            if command.environ is not None:
                for name, value in command.environ.items():
                    os.environ[name] = value
                    if not value:
                        del os.environ[name]
            elif command.cancel:
                self._tasks[command.number].cancel()
            elif command.ask is not None:
                self._longest = 0.0
                task = asyncio.create_task(self._one(command.number, command.ask))
                self._tasks[command.number] = task
        beat.cancel()

    async def _one(self, number: int, ask: Ask) -> None:
        def tell(piece: Piece) -> None:
            msgspec.msgpack.encode(piece)  # as it will travel
            _tell(Told(number, time.monotonic(), piece))

        raised, result = "", None
        try:
            result = await self._answer(ask, tell)
            msgspec.msgpack.encode(result)
        except BaseException as error:
            raised = type(error).__name__
        at = time.monotonic()
        for _ in range(50):  # what only has to run on to end
            await asyncio.sleep(0)
        own = {"_one", "_beat", "run"}
        coroutines = [task.get_coro() for task in asyncio.all_tasks()]
        names = [getattr(one, "__name__", repr(one)) for one in coroutines]
        tasks = [name for name in names if name not in own]
        longest = self._longest
        _tell(Told(number, at, None, result, raised, tasks, longest))

    async def _beat(self) -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(0.001)  # measures how late the loop wakes it
            now = time.monotonic()
            self._longest = max(self._longest, now - before)
            before = now


_out = os.dup(1)


def _tell(told: Told) -> None:
    data = memoryview(msgspec.json.encode(told) + b"\n")
    while data:
        data = data[os.write(_out, data) :]


def main() -> None:
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    os.dup2(2, 1)  # whatever litellm prints
    from sandbox_agent.models.process.inside import completion

    completion.load()
    asyncio.run(_Loop().run())
    os._exit(0)


if __name__ == "__main__":
    main()


__all__ = ["Asked", "Asker", "FailureKind", "Told"]
