"""The model process with the real litellm in it, killed, stopped and starved by somebody else.

Few, since each of its processes imports litellm. What is exact about it is in `test_model`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from pathlib import Path

import observer
from modelling import GRACE, LONG, TERM, Request, check_restarts, found, is_there
from provider import Answer, Stub
from provider import Request as Asked
from sandbox_agent.config.settings import Interrupt
from sandbox_agent.models.process.host import ModelProcess
from sandbox_agent_ipc.model_messages import Answer as Answered
from sandbox_agent_ipc.model_messages import Ask
from table import Who

KEY = "sk-not-a-real-key"
IMPORT = 60.0
"""Seconds that importing litellm may take on a busy machine, twice."""


class Provider:
    """A stub that holds its answers to what is called "streamed" or "silent", once each: in the
    middle, or before the first byte."""

    def __init__(self) -> None:
        self._asked: list[str] = []
        self.stub = Stub(self._choose)

    def _choose(self, request: Asked) -> Answer:
        name = request.body["messages"][0]["content"].strip()
        hold = {"streamed": 2, "silent": 0}.get(name.split()[0])
        if name in self._asked:
            hold = None
        self._asked.append(name)
        return Answer(text=f"the answer to {name}", hold_at=hold)

    def ask(self, process: ModelProcess, name: str, padding: int = 0) -> Request:
        content = name + padding * " "
        messages = json.dumps([{"role": "user", "content": content}]).encode()
        ask = Ask("openai/gpt-4o", messages, api_base=self.stub.openai_base, timeout=LONG)
        return Request(process, ask, Interrupt(GRACE, TERM))

    def begin(self, process: ModelProcess, name: str) -> tuple[Request, int]:
        """Ask, and wait until that hangs. Returns the stub's number of it, too."""
        number = len(self.stub.requests)
        request = self.ask(process, name)
        self.stub.wait_requests(number + 1, IMPORT)
        if name.startswith("streamed"):
            request.hear("text")
        return request, number


def answered(request: Request, name: str, restart: str = "") -> None:
    """It is, after so many repetitions."""
    result = request.result(IMPORT)
    assert isinstance(result, Answered), result
    assert result.text == f"the answer to {name}"
    check_restarts(request, restart)


def the_process() -> observer.Process:
    [process] = observer.eventually(lambda: found(Who.MODEL), 20)
    return process


def test_what_dies_with_litellm_in_it_is_replaced_and_what_it_was_asked_is_asked_again() -> None:
    provider, process = Provider(), ModelProcess({"OPENAI_API_KEY": KEY})
    with provider.stub as stub:
        # While it imports litellm.
        early = provider.ask(process, "early")
        first = the_process()
        os.kill(first.pid, signal.SIGKILL)
        answered(early, "early")
        assert not is_there(first)

        # With two requests in it, one of which is being answered.
        streamed, one = provider.begin(process, "streamed 1")
        silent, two = provider.begin(process, "silent 1")
        second = the_process()
        os.kill(second.pid, signal.SIGKILL)
        answered(streamed, "streamed 1", "it was ended by signal 9")
        answered(silent, "silent 1", "it was ended by signal 9")
        assert not is_there(second)
        stub.wait_closed(one)
        stub.wait_closed(two)

        # Stopped, and one of the two requests in it is interrupted.
        streamed, one = provider.begin(process, "streamed 2")
        silent, two = provider.begin(process, "silent 2")
        third = the_process()
        os.kill(third.pid, signal.SIGSTOP)
        streamed.interrupt()
        assert streamed.result() is None, "within grace, term and a little"
        assert not is_there(third)
        stub.wait_closed(one)
        stub.wait_closed(two)
        answered(silent, "silent 2", "it was ended by signal 15")

        # There is no memory for what it is asked next.
        if os.geteuid() == 0:  # else not even its own user may take it away
            silent, two = provider.begin(process, "silent 3")
            fourth = the_process()
            size = memory(fourth)
            resource.prlimit(fourth.pid, resource.RLIMIT_DATA, (size, size))
            large = provider.ask(process, "large", padding=20 << 20)
            why = "it ended with exit code 70: model process: MemoryError()"
            answered(large, "large", why)
            answered(silent, "silent 3", why)
            assert not is_there(fourth)
            stub.wait_closed(two)

        answered(provider.ask(process, "next"), "next")
        assert stub.violations == []
        last = the_process()
        begin = time.monotonic()
        assert process.close() == ()
        assert time.monotonic() - begin < 2
        assert not is_there(last)


def memory(process: observer.Process) -> int:
    """Bytes that RLIMIT_DATA counts."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise LookupError("VmData")
