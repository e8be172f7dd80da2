"""What an interrupt costs inside one host process, beside what the bare kernel takes for it.

Ratios are to a figure of the same run: a bare socket ping for the flag, and a bare SIGKILL of a pid
namespace's init that holds as many processes for the last rung. Used by `scripts/bench`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import observer
import sandbox_agent
from bench.samples import median
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.messages import FunctionRef
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.host.cell import CallRequest, Cell
from sandbox_agent_sandbox.outcome import CallResult, Outcome, Rung
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from sandboxes import command

TOOLS = """
import os, time
from sandbox_agent import CancelToken

def waits(token: CancelToken) -> str:
    os.write(1, b"up")
    token.wait()
    return str(time.monotonic_ns())

def polls(token: CancelToken) -> str:
    os.write(1, b"up")
    while not token.is_cancelled:
        pass
    return str(time.monotonic_ns())

def sleeps() -> str:
    try:
        os.write(1, b"up")
        time.sleep(30)
    finally:
        open("finally", "a").close()

def spins() -> str:
    try:
        os.write(1, b"up")
        while True:
            pass
    finally:
        open("finally", "a").close()
"""

TREE = """
trap '' INT TERM HUP
i=0; while [ $i -lt {count} ]; do (setsid {program}{mark} &); i=$((i+1)); done
echo up; while :; do sleep 301; done
"""
"""Double-forked and exec'ed, of sessions of their own, ignoring INT, TERM and HUP."""

SLEEP = "sleep 300."
# Not a name that is looked for in PATH, which may find a slow script in front of the interpreter.
PYTHON = f"{os.path.realpath(sys.executable)} -I -S -c 'import time; time.sleep(300)' "

BARE = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None)
flags = 0x20000000 | (0 if os.geteuid() == 0 else 0x10000000)  # CLONE_NEWPID, CLONE_NEWUSER
if libc.unshare(flags):
    sys.exit("unshare failed")
child = os.fork()
if child == 0:
    if os.fork() == 0:
        os.execvp("bash", ["bash", "-c", sys.argv[1]])
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        signal.sigwaitinfo({signal.SIGCHLD})
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
print(child, flush=True)
os.waitpid(child, 0)
"""
"""A pid namespace whose init does nothing but reap. Prints init's pid."""


class Row(NamedTuple):
    """Figures in seconds. against: the median of what they are measured against. median_bound,
    worst_bound: of the median and of the 99th percentile."""

    what: str
    figures: Sequence[float]
    against: float | None = None
    median_bound: float | None = None
    worst_bound: float | None = None


# --- the flag -------------------------------------------------------------------------------


PAUSE = 0.002
"""Seconds between a tool's being up and its flag, in which it goes to sleep (or spins)."""


def ping(rounds: int) -> list[float]:
    """Round trips of one byte between two processes over a SEQPACKET socket pair.

    Sent by an event loop after the same pause as a flag: a processor that was idle wakes slowly.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        ours.close()
        while theirs.recv(1):
            theirs.send(b"!")
        os._exit(0)
    theirs.close()
    taken = []

    async def main() -> None:
        for _ in range(rounds):
            await asyncio.sleep(PAUSE)
            begin = time.monotonic_ns()
            ours.send(b"!")
            ours.recv(1)
            taken.append((time.monotonic_ns() - begin) / 1e9)

    with ours:
        asyncio.run(main())
    os.waitpid(child, 0)
    return taken


class Bench:
    """One open sandbox, and calls in it that are stopped once they are up."""

    def __init__(self, cell: Cell, workspace: Path) -> None:
        self._cell = cell
        self._workspace = workspace
        self._calls = 0

    async def stop(self, what: str) -> tuple[CallResult, int]:
        """Call a tool, flag it when it is up. Its result, and when the flag went up (ns)."""
        up = asyncio.Event()
        self._calls += 1
        request = CallRequest(
            f"call-{self._calls}",
            FunctionRef("bench_tools", what),
            b"{}",
            str(self._workspace),
            on_output=lambda stream, data: up.set(),
        )
        call = asyncio.create_task(self._cell.call(request))
        await up.wait()
        await asyncio.sleep(PAUSE)
        begin = time.monotonic_ns()
        self._cell.cancel(request.id, CancelReason.INTERRUPT)
        return await call, begin

    async def seen(self, what: str, rounds: int) -> list[float]:
        """Seconds from the flag until the tool saw it."""
        taken = []
        for _ in range(rounds):
            result, begin = await self.stop(what)
            assert result.outcome is Outcome.CANCELLED, result
            taken.append((int(result.content) - begin) / 1e9)
        return taken

    async def over_after_term(self, what: str, rounds: int) -> list[float]:
        """Seconds from the SIGTERM rung to the proven end, its `finally` having run."""
        taken = []
        for _ in range(rounds):
            result, _ = await self.stop(what)
            assert (result.outcome, result.rung) == (Outcome.CANCELLED, Rung.TERM), result
            (self._workspace / "finally").unlink()
            taken.append((result.rungs_ms["ended"] - result.rungs_ms["term"]) / 1e3)
        return taken


@contextlib.asynccontextmanager
async def bench(workspace: Path, *, grace: float, term: float) -> Any:
    (workspace / "bench_tools.py").write_text(TOOLS)
    facade = Path(sandbox_agent.__file__).parents[1]
    # Sixteen hundred Pythons have more than 4 GiB.
    policy = Policy(limits={"processes": 4000, "memory": None})
    cell = Cell(
        make_plan(policy, host_facts(), workspace=workspace, tool_paths=[facade]),
        grace=grace,
        term=term,
    )
    await cell.open()
    try:
        yield Bench(cell, workspace), cell
    finally:
        cell.close()


def flag_rows(workspace: Path, rounds: int) -> Iterator[Row]:
    pings = ping(max(200, rounds))
    bare = median(pings)
    yield Row("a bare socket ping, there and back", pings)

    async def main() -> tuple[list[float], list[float], list[float], list[float]]:
        async with bench(workspace, grace=20, term=20) as (one, _):
            flags = await one.seen("waits", rounds), await one.seen("polls", rounds)
        async with bench(workspace, grace=0.02, term=20) as (one, _):
            few = max(5, rounds // 10)
            terms = (
                await one.over_after_term("sleeps", few),
                await one.over_after_term("spins", few),
            )
        return *flags, *terms

    waits, polls, sleeps, spins = asyncio.run(main())
    yield Row("flag to seen, token.wait()", waits, bare, 5 * bare, 0.001)
    yield Row("flag to seen, a loop over is_cancelled", polls, bare, 5 * bare, 0.001)
    yield Row("time.sleep(30): SIGTERM to proven over, finally run", sleeps, None, None, 0.05)
    yield Row("while True: pass: SIGTERM to proven over, finally run", spins, None, None, 0.05)


def arun_row(workspace: Path, rounds: int) -> Row:
    """The flag to the return of arun(), for a tool that waits for its token."""
    from sandbox_agent.conversation import Conversation
    from sandbox_agent.models import ModelCall, ModelTurn
    from sandbox_agent.models.scripted import ScriptedModel, Step

    (workspace / "bench_tools.py").write_text(TOOLS)
    step = Step(ModelTurn("", (ModelCall("waits", {}),)))
    flagged = 0

    async def main() -> list[float]:
        nonlocal flagged
        taken = []
        up = asyncio.Event()
        conversation = Conversation(
            model=ScriptedModel([step] * rounds),
            tools=["bench_tools:waits"],
            workspace=workspace,
            output_dir=workspace.parent / "runs",
            interrupt=(20, 20),
            on_output=lambda call, stream, data: up.set(),
        )
        async with conversation:
            for _ in range(rounds):
                up.clear()
                conversation.send_message("go")
                run = asyncio.create_task(conversation.arun())
                await up.wait()
                await asyncio.sleep(PAUSE)
                flagged = time.monotonic_ns()
                conversation.interrupt()
                result = await run
                taken.append((time.monotonic_ns() - flagged) / 1e9)
                assert result.exit_code == 130, result
        return taken

    return Row("cooperative tool: flag to the return of arun()", asyncio.run(main()), None, 0.010)


# --- the last rung --------------------------------------------------------------------------


def tree(program: str, count: int, mark: str) -> str:
    return TREE.format(program=program, count=count, mark=mark)


def all_up(program: str, count: int, mark: str) -> None:
    """Wait until all processes of trees have exec'ed, then stop every second one."""
    begin = program.replace("'", "")

    def look() -> list[observer.Process] | None:
        found = [p for p in observer.marked(mark) if p.command.startswith(begin)]
        return found if len(found) >= count else None

    for process in observer.eventually(look, 120)[::2]:
        os.kill(process.pid, signal.SIGSTOP)


def killed(workspace: Path, program: str, count: int, calls: int) -> float:
    """Seconds from the first KILL rung until the last of `calls` parallel calls is proven dead."""
    mark = observer.new_mark()

    async def main() -> float:
        async with bench(workspace, grace=0.05, term=0.05) as (_, cell):
            token = RunToken()
            made = [command(workspace, tree(program, count, mark)) for _ in range(calls)]
            going = [asyncio.create_task(cell.call(one, token=token)) for one in made]
            await asyncio.to_thread(all_up, program, calls * count, mark)
            token.cancel(CancelReason.INTERRUPT)
            results = await asyncio.gather(*going)
            assert {result.outcome for result in results} == {Outcome.KILLED}, results
            assert observer.marked(mark) == []
            # All were flagged by one cancel(), within a fraction of a millisecond.
            begin = min(result.rungs_ms["kill"] for result in results)
            return (max(result.rungs_ms["ended"] for result in results) - begin) / 1e3

    return asyncio.run(main())


def bare_kill(program: str, count: int, namespaces: int) -> float:
    """The same of bare pid namespaces, whose inits get a SIGKILL one after the other."""
    mark = observer.new_mark()
    argv = [sys.executable, "-S", "-c", BARE, tree(program, count, mark)]
    with contextlib.ExitStack() as stack:
        handles = []
        for _ in range(namespaces):
            process = stack.enter_context(
                subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
            )
            assert process.stdout is not None
            handles.append(os.pidfd_open(int(process.stdout.readline())))
        try:
            all_up(program, namespaces * count, mark)
            poll = select.poll()
            begin = time.monotonic()
            for handle in handles:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                poll.register(handle, select.POLLIN)
            waiting = set(handles)
            while waiting:
                for handle, _ in poll.poll():
                    poll.unregister(handle)
                    waiting.discard(handle)
            taken = time.monotonic() - begin
        finally:
            for handle in handles:
                with contextlib.suppress(ProcessLookupError):  # as a rule: it has ended
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                os.close(handle)
    assert observer.marked(mark) == []
    return taken


def kill_rows(workspace: Path, rounds: int, count: int = 100, many: int = 16) -> Iterator[Row]:
    for kind, program, one_bound, many_bound in (
        ("sleep", SLEEP, 0.1, 0.25),
        ("Python", PYTHON, 0.15, 0.6),
    ):
        for calls, bound in ((1, one_bound), (many, many_bound)):
            times = rounds if calls == 1 else max(1, rounds // 2)
            bare = [bare_kill(program, count, calls) for _ in range(times)]
            ours = [killed(workspace, program, count, calls) for _ in range(times)]
            trees = f"{calls} x {count} {kind} processes"
            yield Row(f"{trees}: bare SIGKILL of init to empty", bare)
            yield Row(f"{trees}: KILL rung to proven dead", ours, median(bare), None, bound)
