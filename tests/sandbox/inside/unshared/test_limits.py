"""Without namespaces: where no control group counts the processes, the watch does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import observer
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.inside.watch import Watch
from sandbox_agent_sandbox.outcome import CallResult, Outcome
from sandboxes import command, run
from unshared import PYTHON, inside, plan_for, with_tools_up

MOST = 40

FORKING = f"""
import os, signal, time
begun = refused = 0
for _ in range({MOST} * 3):
    try:
        if os.fork() == 0:
            signal.pause()
        begun += 1
    except BlockingIOError:
        refused += 1
print("up", flush=True)
signal.pause()
"""

THREADING = f"""
import threading
for _ in range({MOST} * 3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
threading.Event().wait()
"""


@contextlib.asynccontextmanager
async def small_sandbox(workspace: Path) -> AsyncIterator[Cell]:
    plan = plan_for(workspace, limits={"processes": MOST})
    cell = Cell(msgspec.structs.replace(plan, groups=None), grace=0.1, term=0.1)
    await cell.open()
    try:
        yield cell
    finally:
        assert cell.close() == ()


def test_more_processes_than_the_limit_are_refused_or_ended(tmp_path: Path) -> None:
    """RLIMIT_NPROC refuses them to a user, and does not bind uid 0: there the newest are ended."""
    tmp_path.chmod(0o777)

    async def main() -> tuple[int, CallResult]:
        async with small_sandbox(tmp_path) as cell:
            call_id, call = await with_tools_up(cell, tmp_path, f"exec {PYTHON} -S -c '{FORKING}'")
            await asyncio.to_thread(observer.eventually, lambda: len(inside()) <= MOST + 1, 20)
            number = len(inside())
            cell.cancel(call_id, CancelReason.INTERRUPT)
            return number, await call

    number, result = run(main)
    for _ in range(3 if os.geteuid() != 0 else 0):  # what other tests of the user start counts too
        if number > MOST / 2:
            break
        number, result = run(main)
    assert number > MOST / 2
    # A user's other processes count too: the limit may be met before the watch sees as many.
    met = [one.limit for one in result.limits]
    assert met == ["processes"] or (not met and os.geteuid() != 0)


def test_a_process_with_more_threads_than_the_limit_is_ended(tmp_path: Path) -> None:
    """For a user RLIMIT_NPROC refuses a thread before that."""
    tmp_path.chmod(0o777)

    async def main() -> CallResult:
        async with small_sandbox(tmp_path) as cell:
            text = f"exec {PYTHON} -S -c '{THREADING}'"
            return await cell.call(command(tmp_path, text, timeout=20))

    result = run(main)
    assert result.outcome in (Outcome.ERROR, Outcome.CRASHED), result
    refused = b"start new thread" in result.stdout
    assert refused or [met.limit for met in result.limits] == ["processes"]


def test_the_host_hears_of_a_limit_before_anything_is_ended(tmp_path: Path) -> None:
    """Else the call's own end may come first, and its result does not say why."""
    plan = plan_for(tmp_path, limits={"processes": MOST})
    plan = msgspec.structs.replace(plan, groups=None)
    names = [sys.executable, "-S", "-c", FORKING]
    heard: list[tuple[str, bool]] = []

    def tell(call_id: str, limit: str, what: str) -> None:
        heard.append((limit, all(observer.look(pid) for pid in below(init.pid))))

    proc = os.open("/proc", os.O_RDONLY)
    with subprocess.Popen(names, stdout=subprocess.PIPE) as init:
        try:
            assert init.stdout is not None
            assert init.stdout.readline() == b"up\n"
            many = below(init.pid)
            watch = Watch(plan, tell, proc, own=())
            watch.add("call-1", init.pid)
            assert observer.eventually(lambda: watch.look() or heard, 10)
            assert heard == [("processes", True)]
            assert observer.eventually(lambda: len(many) > sum(map(alive, many)), 10)
        finally:
            for pid in below(init.pid):
                os.kill(pid, signal.SIGKILL)
            init.kill()
            os.close(proc)


def below(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    return observer.look(pid) is not None


UNNOTICED = f"""
import os, time
try:
    for _ in range({MOST} * 3):
        if os.fork() == 0:
            os._exit(0)
except BlockingIOError:
    raise SystemExit(75)
time.sleep(30)
"""


def test_processes_that_have_ended_count_until_their_parent_takes_note_of_it(
    tmp_path: Path,
) -> None:
    """They take numbers of the host's. With the end of their parent they are gone."""
    tmp_path.chmod(0o777)

    async def main() -> CallResult:
        async with small_sandbox(tmp_path) as cell:
            return await cell.call(command(tmp_path, f"exec {PYTHON} -S -c '{UNNOTICED}'"))

    result = run(main)
    refused = "exit status 75" in repr(result)
    assert refused or [met.limit for met in result.limits] == ["processes"], result


HEADLESS = """
import ctypes, os, threading, time
def hold():
    kept = b"x" * (200 << 20)
    time.sleep(30)
threading.Thread(target=hold).start()
ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)
"""


def test_memory_counts_also_where_the_first_thread_has_ended(tmp_path: Path) -> None:
    """Then /proc/PID/stat shows a zombie without memory."""
    tmp_path.chmod(0o777)

    async def main() -> CallResult:
        plan = plan_for(tmp_path, limits={"memory": 100 << 20, "shm": 1 << 20})
        cell = Cell(msgspec.structs.replace(plan, groups=None), grace=0.1, term=0.1)
        await cell.open()
        try:
            return await cell.call(command(tmp_path, f"exec {PYTHON} -S -c '{HEADLESS}'"))
        finally:
            assert cell.close() == ()

    assert [met.limit for met in run(main).limits] == ["memory"]
