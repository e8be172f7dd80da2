"""Root that can show files as nobody else's: its tools are uid 0 outside, and RLIMIT_NPROC binds no
such process, in whatever namespace. Without a control group the watch ends the newest ones."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import observer
import pytest
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_sandbox.host.cell import Cell
from sandbox_agent_sandbox.outcome import CallResult
from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import host_facts
from sandboxes import run
from unshared import PYTHON, with_tools_up

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MOST = 40
FORKING = f"""
import os, signal
for _ in range({MOST} * 3):
    if os.fork() == 0:
        signal.pause()
print("up", flush=True)
signal.pause()
"""


def test_roots_processes_beyond_the_limit_are_ended(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    facts = msgspec.structs.replace(host_facts(), can_mount=False)
    policy = Policy(limits={"processes": MOST})
    plan = make_plan(policy, facts, workspace=tmp_path, kind=PlanKind.FULL)
    assert plan.identity.outside_uid == 0

    async def main() -> CallResult:
        cell = Cell(msgspec.structs.replace(plan, groups=None), grace=0.1, term=0.1)
        await cell.open()
        try:
            call_id, call = await with_tools_up(cell, tmp_path, f"exec {PYTHON} -S -c '{FORKING}'")
            # The newest are ended, also of those that began in one tick of the clock: one that was
            # forked during a look lives until the next.
            await asyncio.to_thread(observer.eventually, lambda: has_the_oldest(tmp_path), 20)
            cell.cancel(call_id, CancelReason.INTERRUPT)
            return await call
        finally:
            assert cell.close() == ()

    assert [met.limit for met in run(main).limits] == ["processes"]


def has_the_oldest(workspace: Path) -> bool:
    left = started(workspace)
    oldest = list(range(left[0], left[0] + len(left))) if left else []
    return left == oldest and 2 < len(left) <= MOST + 4


def started(workspace: Path) -> list[int]:
    """The processes below this one that have the working folder of the call, by their numbers in
    its namespace, in their order."""
    found = []
    for one in observer.descendants(os.getpid()):
        try:
            if os.readlink(f"/proc/{one.pid}/cwd") == str(workspace):
                found.append(one.namespace_pids[-1])
        except OSError:
            continue
    return sorted(found)
