"""A sandbox without namespaces inside another one: the inner one has no gate of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import unshared_agent
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_sandbox.outcome import CallResult, Outcome
from sandboxes import run
from unshared import alive, inside, unshared, with_tools_up


def test_the_outer_end_ends_the_inner_sandbox_too(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "inner").mkdir(mode=0o777)
    (tmp_path / "inner").chmod(0o777)
    agent = f"exec {sys.executable} {unshared_agent.__file__} {tmp_path}/inner"

    async def main() -> CallResult:
        async with unshared(tmp_path) as cell:
            call_id, call = await with_tools_up(
                cell, tmp_path, f"{agent} 'setsid sleep 300 & echo up; sleep 300'"
            )
            kin = inside()
            assert len(kin) >= 6, "the inner sandbox has keepers and tools"
            cell.cancel(call_id, CancelReason.INTERRUPT)
            cell.escalate(call_id)
            result = await call
            assert alive(kin) == []
            return result

    assert run(main).outcome in (Outcome.CANCELLED, Outcome.KILLED)
