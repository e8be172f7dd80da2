"""Conversations whose model is asked of the stand-ins for providers. Imported by name."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import observer
import pytest
from provider import Answer, Request, Stub, ToolCall
from sandbox_agent.config.settings import Interrupt
from sandbox_agent.conversation import Conversation
from sandbox_agent.journal.result import RunResult
from sandbox_agent.models.process.shared import Lease
from sandbox_agent.models.provider import ProviderModel
from sandbox_agent_ipc.model_messages import Ask
from sandbox_agent_ipc.token import RunToken
from talking import Watch, talk

KEYS = {"OPENAI_API_KEY": "sk-pl4nted-0penai-k3y", "ANTHROPIC_API_KEY": "sk-ant-pl4nted-k3y"}
GPT = "openai/gpt-4o"
CLAUDE = "anthropic/claude-sonnet-4-5"
NOISE = 4
"""Times the bound that a test allows on a shared machine. `scripts/bench` prints the figures."""
AT_ONCE = 0.05
"""Seconds from an interrupt to the return of a run whose process heeds it."""


@contextmanager
def keys() -> Iterator[None]:
    """The environment of whoever has accounts with both providers."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        yield


@contextmanager
def warm() -> Iterator[Lease]:
    """A model process that all conversations meanwhile share: its import takes seconds."""
    with keys(), Stub() as stub:
        lease = Lease()
        try:
            hello = b'[{"role":"user","content":"Are you there?"}]'
            ask = Ask(GPT, hello, api_base=stub.openai_base)
            lease.process.ask(ask, Interrupt(), RunToken(), lambda piece: None).result.result(60)
            yield lease
        finally:
            lease.close()


def model_of(stub: Stub, name: str = GPT, **options: Any) -> ProviderModel:
    anthropic = name.startswith("anthropic/")
    base = stub.anthropic_base if anthropic else stub.openai_base
    return ProviderModel(name, **{"api_base": base, **options})


def chat(folder: Path, watch: Watch, stub: Stub, name: str = GPT, **more: Any) -> Conversation:
    """A conversation in `folder` whose model is the stub's, told to go. model: options of it."""
    model = model_of(stub, name, **more.pop("model", {}))
    conversation = talk(folder, watch, **{"model": model, **more})
    conversation.send_message("go")
    return conversation


def sh(*commands: str) -> Answer:
    """An answer with parallel calls of a shell."""
    return Answer(calls=tuple(ToolCall("shell", {"command": command}) for command in commands))


@dataclass(frozen=True)
class Struck:
    """A run that was interrupted. at: when (CLOCK_MONOTONIC). seconds: until it had returned."""

    result: RunResult
    at: float
    seconds: float


def struck(
    run: Callable[[], RunResult], ready: Callable[[], object], strike: Callable[[], object]
) -> Struck:
    """Runs, and strikes in another thread once it is ready."""
    at: list[float] = []

    def work() -> None:
        ready()
        at.append(time.monotonic())
        strike()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        result = run()
    finally:
        over = time.monotonic()
        thread.join()
    return Struck(result, at[0], over - at[0])


def model_processes(root: int) -> list[int]:
    """Pids of the processes below `root` that have litellm in them. Known by their size, which
    anybody may see: nothing else of ours comes near it."""
    return [one.pid for one in observer.descendants(root) if _resident(one.pid) > LITELLM]


LITELLM = 100 * 2**20
"""Bytes that a process with litellm in it has resident at least."""


def _resident(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def said(request: Request) -> list[dict[str, Any]]:
    """The messages of a request, without the system's."""
    return [one for one in request.body["messages"] if one["role"] != "system"]


def results(request: Request) -> dict[str, str]:
    """What the model was told of its calls, by their ids."""
    return {one["tool_call_id"]: one["content"] for one in said(request) if one["role"] == "tool"}
