"""A model process that goes wrong, and the requests that are with it then."""

from __future__ import annotations

import os
import queue
import shutil
import time
from concurrent.futures import TimeoutError as NoResult
from pathlib import Path
from typing import Any

import observer
import pytest
import sandbox_agent_sandbox.policy.make_plan as planning
from sandbox_agent.config.settings import Interrupt
from sandbox_agent.models.process import host
from sandbox_agent.models.process.host import ModelProcess, Result
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.messages import FunctionRef
from sandbox_agent_ipc.model_messages import Ask, Piece
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.host.deadlines import DEFAULT, Deadlines
from sandbox_agent_sandbox.policy.policy import Policy
from striking import NAMES
from table import How, When, Who

GRACE, TERM = 0.15, 0.6
BOUND = 0.15
"""Seconds beyond grace and term until an interrupted request must have returned."""
SLOW = 4
"""A busy machine may take so many times that."""
SILENCE = 0.3
"""Seconds that nothing may be heard of a request that is to be given up."""
LONG = 60.0

_NAMES = {
    Who.MODEL: "sandbox-worker",
    Who.MODEL_CALL_INIT: NAMES["call init"],
    Who.MODEL_INIT: NAMES["init"],
    Who.MODEL_SPAWNER: NAMES["spawner"],
}


def misbehave(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have model processes serve `misbehaving_model`, in the plan that they always have but for
    a folder to write to and less memory."""
    here = Path(__file__).parent
    for name in ("misbehaving.py", "misbehaving_model.py"):
        shutil.copy(here / name, folder)
    os.mkfifo(folder / "go")
    (folder / "go").chmod(0o666)
    make = planning.make_plan

    def make_plan(policy: Policy, *arguments: Any, tool_paths: list[Path], **more: Any) -> Any:
        limits = policy.limits.model_copy(update={"process_memory": 256 << 20})
        policy = policy.model_copy(update={"write": [folder], "limits": limits})
        return make(policy, *arguments, tool_paths=[*tool_paths, folder], **more)

    monkeypatch.setattr(planning, "make_plan", make_plan)
    monkeypatch.setattr(host, "_FUNCTION", FunctionRef("misbehaving_model", "serve"))


class Request:
    """One request on its way."""

    def __init__(self, process: ModelProcess, ask: Ask, patience: Interrupt) -> None:
        self.token = RunToken()
        self._heard: queue.SimpleQueue[Piece] = queue.SimpleQueue()
        self.pieces: list[Piece] = []
        self._limit = patience.grace + patience.term + SLOW * BOUND
        self._asking = process.ask(ask, patience, self.token, self._heard.put)
        self.cancelled_at = 0.0

    def hear(self, kind: str) -> Piece:
        """The next piece of this kind."""
        while True:
            piece = self._heard.get(timeout=20)
            self.pieces.append(piece)
            if piece.kind == kind:
                return piece

    def interrupt(self) -> None:
        self.cancelled_at = time.monotonic()
        self.token.cancel(CancelReason.INTERRUPT)

    def escalate(self) -> None:
        self._asking.escalate()

    def result(self, timeout: float = 20) -> Result:
        try:
            found = self._asking.result.result(timeout)
        except NoResult:
            raise AssertionError(f"no result in {timeout} s") from None
        taken = time.monotonic() - self.cancelled_at
        if self.cancelled_at:
            assert taken < self._limit, f"it took {taken:.3f} s"
        while not self._heard.empty():
            self.pieces.append(self._heard.get())
        return found

    def restarts(self) -> list[str]:
        return [piece.text for piece in self.pieces if piece.kind == "restart"]


class Case:
    """A model process that is to die. `with`: it is closed in the end, and nothing of it stays."""

    def __init__(self, folder: Path, when: When, how: str, deadlines: Deadlines = DEFAULT) -> None:
        self._folder = folder
        self._when = when
        # Who eats all memory takes as long as it takes.
        patient = how == How.MEMORY and when is not When.MID_FRAME
        self._patience = Interrupt(20, 20) if patient else Interrupt(GRACE, TERM)
        self.go = os.open(folder / "go", os.O_RDWR | os.O_CLOEXEC)
        environ = {"WHEN": when.value, "HOW": how, "FOLDER": str(folder)}
        self.process = ModelProcess(environ, deadlines=deadlines, silence_margin=0.0)

    def ask(self, model: str, silence: float = LONG) -> Request:
        return Request(self.process, Ask(model, b"[]", timeout=silence), self._patience)

    def on_the_ladder(self, target: Request) -> None:
        """Take the rungs that come before the moment."""
        if self._when in (When.AFTER_FLAG, When.AFTER_TERM):
            target.hear("text")
            target.interrupt()
            if self._when is When.AFTER_TERM:
                target.escalate()

    def let_go(self) -> None:
        """Bystanders are answered, and what waits to be struck from outside goes on."""
        os.write(self.go, b"!")

    def always(self, always: bool) -> None:
        """Whether further processes go wrong too."""
        path = self._folder / "always"
        path.touch() if always else path.unlink()

    def await_wrong(self) -> None:
        """Until it is about to go wrong."""
        observer.eventually((self._folder / "gone").exists, 20)

    def __enter__(self) -> Case:
        return self

    def __exit__(self, *_: object) -> None:
        begin = time.monotonic()
        survivors = self.process.close()
        taken = time.monotonic() - begin
        os.close(self.go)
        assert survivors == ()
        assert taken < 2.0, f"close() took {taken:.3f} s"


def check_restarts(request: Request, why: str) -> None:
    """One repetition, with this reason; none for ""."""
    said = [f"the model process was replaced: {why}"] if why else []
    assert request.restarts() == said, (request.restarts(), said)


def found(who: Who) -> list[observer.Process]:
    """The processes of ours of this kind."""
    below = observer.descendants(os.getpid())
    return [one for one in below if _name(one.pid) == _NAMES[who]]


def is_there(process: observer.Process) -> bool:
    now = observer.look(process.pid)
    return now is not None and now.start == process.start


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
