"""What one plan costs, in a process of its own: the host of one sandbox.

    python plan.py KIND FOLDER [FIGURE...]

KIND: of the plan, as `sandbox.plan` has it. FIGURE: without any, all. It prints the seconds of each
figure as a JSON object. `bench/suites/plans.py` runs it with each plan in turns.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "support"))

import paths

sys.path += paths.IMPORT_PATHS

import observer
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_sandbox.host.cell import CallRequest, Cell
from sandbox_agent_sandbox.outcome import CallResult, Outcome, Rung
from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from sandboxes import command

COUNTS = (1, 10, 100, 1000)
COMETS = 200
OPENS, CALLS = 3, 20
LIMITS = {"processes": 4000, "timeout": "100s"}
DEADLINE = 100
"""Seconds for one figure. The processes that it needs end before that."""

TREE = """
trap '' INT TERM HUP
i=0
while [ $i -lt {count} ]; do
    if [ $((i % 2)) = 0 ]; then (setsid sleep 90.{mark} &); else sleep 90.{mark} & fi
    i=$((i+1))
done
echo up
wait
sleep 90
"""
"""Half of them double-forked, with a session of its own each. All ignore INT, TERM and HUP."""

STORM = """
import os, sys, time
end = time.monotonic() + 60
for _ in range({count}):
    if os.fork() == 0:
        while time.monotonic() < end:
            try:
                if os.fork():
                    os._exit(0)
                os.setsid()
            except OSError:
                pass
        os._exit(0)
print("up", flush=True)
time.sleep(60)
"""
"""Comets: each forks, its parent exits, and it takes a session of its own, again and again. A fork
that fails is tried again. They end by themselves, should nobody end them."""

PYTHON = os.path.realpath(sys.executable)


class Bench:
    """One open sandbox."""

    def __init__(self, cell: Cell, workspace: Path) -> None:
        self._cell = cell
        self._workspace = workspace

    async def call(self) -> float:
        """Seconds of a call of /bin/true."""
        begin = time.perf_counter()
        result = await self._cell.call(command(self._workspace, "true"))
        assert result.outcome is Outcome.OK, result
        return time.perf_counter() - begin

    async def killed(self, text: str, mark: str, ready: Callable[[], object]) -> float:
        """Seconds from the last rung to the proven end of a command. ready: waits until all that it
        starts is there."""
        up = asyncio.Event()
        request = command(self._workspace, text, on_output=lambda *_: up.set())
        call = asyncio.create_task(self._cell.call(request))
        await up.wait()
        await asyncio.to_thread(ready)
        result = await self._stop(request, call)
        assert (result.outcome, result.rung) == (Outcome.KILLED, Rung.KILL), result
        assert not result.survivors and not observer.marked(mark), "something is left"
        return (result.rungs_ms["ended"] - result.rungs_ms["kill"]) / 1e3

    async def _stop(self, request: CallRequest, call: asyncio.Task[CallResult]) -> CallResult:
        self._cell.cancel(request.id, CancelReason.INTERRUPT)
        return await call

    async def tree(self, count: int) -> float:
        mark = observer.new_mark()
        text = TREE.format(count=count, mark=mark)
        return await self.killed(text, mark, lambda: all_up(count, mark))

    async def storm(self) -> float:
        mark = observer.new_mark()
        program = self._workspace / "storm.py"
        program.write_text(STORM.format(count=COMETS))
        text = f"exec {PYTHON} -I -S {program} {mark}"
        return await self.killed(text, mark, lambda: None)


def all_up(count: int, mark: str) -> None:
    """Wait until all processes of a tree have exec'ed, then stop every second of both halves."""

    def look() -> list[observer.Process] | None:
        found = [one for one in observer.marked(mark) if one.command.startswith("sleep ")]
        return found if len(found) >= count else None

    found = sorted(observer.eventually(look, DEADLINE), key=lambda one: one.pid)
    for number, process in enumerate(found):
        if number % 4 < 2 and count >= 100:
            os.kill(process.pid, signal.SIGSTOP)


async def measure(kind: PlanKind, folder: Path, some: Sequence[str]) -> dict[str, list[float]]:
    workspace = folder / "work"
    workspace.mkdir(exist_ok=True)

    def wanted(figure: str) -> bool:
        return not some or figure in some

    def new() -> Cell:
        policy = Policy(limits=LIMITS)
        plan = make_plan(policy, host_facts(), workspace=workspace, kind=kind)
        # No time between the rungs: SIGCONT comes with SIGTERM, and the stopped ones stay stopped.
        return Cell(plan, grace=0.0, term=0.0)

    async def opened() -> list[float]:
        taken = []
        for _ in range(OPENS + 1):  # with the first one files are read once
            begin = time.perf_counter()
            cell = new()
            await cell.open()
            taken.append(time.perf_counter() - begin)
            cell.close()
        return taken[1:]

    async def timed(measured: Callable[[Bench], Awaitable[float]], count: int) -> list[float]:
        cell = new()
        await cell.open()
        try:
            bench = Bench(cell, workspace)
            await bench.call()
            return [await asyncio.wait_for(measured(bench), DEADLINE) for _ in range(count)]
        finally:
            assert cell.close() == (), "something is left"

    def killed(count: int) -> Callable[[Bench], Awaitable[float]]:
        return lambda bench: bench.tree(count)

    found: dict[str, list[float]] = {}
    if wanted("open"):
        found["open"] = await opened()
    if wanted("call"):
        found["call"] = await timed(Bench.call, CALLS)
    for count in COUNTS:
        if wanted(f"kill {count}"):
            found[f"kill {count}"] = await timed(killed(count), 1)
    if wanted("storm"):
        found["storm"] = await timed(Bench.storm, 1)
    return found


def main(arguments: list[str]) -> None:
    kind, folder = PlanKind(arguments[0]), Path(arguments[1])
    figures = asyncio.run(measure(kind, folder, arguments[2:]))
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
