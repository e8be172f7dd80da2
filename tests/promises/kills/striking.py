"""A sandbox whose processes are struck from outside, and calls that wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import kinds
import observer
import sandbox_agent
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.messages import FunctionRef
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.host.cell import CallRequest, Cell
from sandbox_agent_sandbox.host.deadlines import DEFAULT, Deadlines
from sandbox_agent_sandbox.outcome import CallResult, Outcome, Rung, StartedState
from sandbox_agent_sandbox.plan import Plan, PlanKind
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from table import When

NAMES = {"spawner": "sandbox-spawner", "init": "sandbox-init", "call init": "sandbox-call"}
"""What the processes call themselves (PR_SET_NAME)."""

WORKERS_KEEPER, GENERATIONS = (
    ("spawner", 3) if kinds.IN_FORCE is PlanKind.NO_NAMESPACES else ("init", 2)
)
"""Who makes the processes of each call, and how far below it a worker is born."""

TOOLS = {
    When.MID_FRAME: FunctionRef("misbehaving", "mid_frame"),
    When.BEFORE_START: FunctionRef("misbehaving_import", "tool"),
    When.MID_OUTPUT: FunctionRef("misbehaving", "mid_output"),
    When.AFTER_FLAG: FunctionRef("misbehaving", "after_flag"),
    When.AFTER_TERM: FunctionRef("misbehaving", "after_term"),
    When.AT_EXIT: FunctionRef("misbehaving", "at_exit"),
}
"""The tool that goes wrong at that moment."""

_ids = itertools.count(1)


@dataclass(frozen=True)
class Told:
    """What a call came to, of its result. detail: exact, or how it begins when it ends in `...`."""

    outcome: Outcome
    started: StartedState
    detail: str
    rung: Rung | None = None

    def check(self, result: CallResult) -> None:
        detail = result.detail
        if self.detail.endswith("..."):
            length = len(self.detail) - 3
            detail = f"{detail[:length]}..."
        assert Told(result.outcome, result.started, detail, result.rung) == self, result
        assert result.survivors == ()


def plan_for(workspace: Path, change: Callable[[Plan], Plan] = lambda plan: plan) -> Plan:
    """The default plan, changed. The tools that misbehave are put into the workspace."""
    here = Path(__file__).parent
    for name in ("misbehaving.py", "misbehaving_import.py"):
        shutil.copy(here / name, workspace)
    if not (workspace / "go").exists():
        os.mkfifo(workspace / "go")
        (workspace / "go").chmod(0o666)
    facade = Path(sandbox_agent.__file__).parents[1]
    policy = Policy(limits={"process_memory": "256MiB"})
    facts, where = host_facts(), {"workspace": workspace, "tool_paths": [facade]}
    return change(make_plan(policy, facts, kind=kinds.IN_FORCE, **where))


@contextlib.asynccontextmanager
async def opened(
    plan: Plan,
    *,
    grace: float,
    term: float,
    slack: float = 0.8,
    deadlines: Deadlines = DEFAULT,
) -> AsyncIterator[Cell]:
    """An open sandbox. Whatever was done to it, closing takes at most `slack` seconds (more
    on a busy machine only), and leaves nothing."""
    cell = Cell(plan, grace=grace, term=term, deadlines=deadlines)
    await cell.open()
    try:
        yield cell
    finally:
        begin = time.monotonic()
        assert cell.close() == ()
        taken = time.monotonic() - begin
    assert taken < slack * observer.patience(), f"close() took {taken:.3f} s"


class Case:
    """One call on its way to be struck. `with`: its named pipe is let go in the end."""

    def __init__(self, cell: Cell, workspace: Path, when: When, how: str, **more: object) -> None:
        self._cell = cell
        self._when = when
        self._arrived = asyncio.Event()
        self.output = b""
        self.token = RunToken()
        self.go = os.open(workspace / "go", os.O_RDWR | os.O_CLOEXEC)
        self.request = CallRequest(
            f"case-{next(_ids)}",
            TOOLS[when],
            b"{}",
            str(workspace),
            env={"HOW": how},
            on_output=self._on_output,
            **more,  # type: ignore[arg-type]
        )
        self.task = asyncio.create_task(cell.call(self.request, token=self.token))

    def _on_output(self, stream: str, data: bytes) -> None:
        self.output += data
        self._arrived.set()

    async def heard(self, text: bytes) -> None:
        """Until the tool has written this, or the call is over."""
        async with asyncio.timeout(20):
            while text not in self.output and not self.task.done():
                self._arrived.clear()
                waiting = asyncio.ensure_future(self._arrived.wait())
                await asyncio.wait({waiting, self.task}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()

    async def on_the_ladder(self) -> None:
        """Take the rungs that come before the moment."""
        if self._when in (When.AFTER_FLAG, When.AFTER_TERM):
            await self.heard(b"half ")
            self.token.cancel(CancelReason.INTERRUPT)
            if self._when is When.AFTER_TERM:
                self._cell.escalate()

    def await_exit(self) -> None:
        """Until the worker has sent its result. The host cannot read it meanwhile, since this holds
        its event loop: else it would end the call's processes."""
        if self._when is When.AT_EXIT:
            self.release()
            exiting = Path(self.request.cwd, "exiting")
            observer.eventually(exiting.exists, 20)

    def release(self) -> None:
        os.write(self.go, b"!")

    async def result(self) -> CallResult:
        async with asyncio.timeout(20):
            return await self.task

    def __enter__(self) -> Case:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.go)


def process_called(who: str) -> observer.Process:
    """The one process of ours of this kind. A child that it has just forked has its name, too."""
    found = [p for p in observer.descendants(os.getpid()) if process_name(p.pid) == NAMES[who]]
    pids = [one.pid for one in found]
    [process] = [one for one in found if one.parent not in pids]
    return process


def process_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
