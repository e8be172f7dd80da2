"""Without namespaces: where no control group counts a call's processes, the gate does."""

from __future__ import annotations

from pathlib import Path

import msgspec
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.outcome import CallResult, Outcome
from sandboxes import command, run
from unshared import PYTHON, plan_for

MOST = 40

FORKING = f"""
import os, signal
begun = refused = 0
for _ in range({MOST} * 3):
    try:
        if os.fork() == 0:
            signal.pause()
        begun += 1
    except BlockingIOError:
        refused += 1
print(begun, refused)
"""

THREADING = f"""
import threading
for _ in range({MOST} * 3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
threading.Event().wait()
"""


def in_a_small_sandbox(workspace: Path, text: str) -> CallResult:
    workspace.chmod(0o777)
    plan = plan_for(workspace, limits={"processes": MOST})
    plan = msgspec.structs.replace(plan, groups=None)

    async def main() -> CallResult:
        cell = Cell(plan, grace=0.1, term=0.1)
        await cell.open()
        try:
            return await cell.call(command(workspace, f"exec {PYTHON} -S -c '{text}'", timeout=20))
        finally:
            assert cell.close() == ()

    return run(main)


def test_no_more_processes_can_be_started_than_the_limit(tmp_path: Path) -> None:
    result = in_a_small_sandbox(tmp_path, FORKING)
    begun, refused = map(int, result.stdout.split())
    assert begun + refused == MOST * 3
    assert MOST * 0.7 < begun <= MOST
    assert result.outcome is Outcome.OK


def test_a_process_with_more_threads_than_the_limit_is_ended(tmp_path: Path) -> None:
    """Threads do not pass the gate. The watch ends the process; for a user RLIMIT_NPROC refuses
    the thread before that."""
    result = in_a_small_sandbox(tmp_path, THREADING)
    assert result.outcome in (Outcome.ERROR, Outcome.CRASHED), result
    assert [met.limit for met in result.limits] == [
        "processes"
    ] or b"start new thread" in result.stdout
