"""Without namespaces: when a call has ended, nothing that it started is alive."""

from __future__ import annotations

from pathlib import Path

import pytest
import zoo
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_sandbox.outcome import CallResult, Outcome
from sandboxes import run
from unshared import KERNELS, PYTHON, alive, inside, pretend, unshared, with_tools_up


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_kind_of_process_outlives_its_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    tmp_path.chmod(0o777)
    pretend(monkeypatch, **KERNELS[kernel])

    async def main() -> dict[str, CallResult]:
        results = {}
        async with unshared(tmp_path, limits={"processes": None}) as cell:
            for kind in zoo.KINDS:
                text = f"{PYTHON} -S {zoo.__file__} '{kind}'"
                call_id, call = await with_tools_up(cell, tmp_path, text)
                kin = inside()
                assert len(kin) >= 2, kind
                cell.cancel(call_id, CancelReason.INTERRUPT)
                cell.escalate(call_id)
                results[kind] = await call
                assert alive(kin) == [], kind
                assert inside() == [], kind
                assert results[kind].survivors == (), kind
        return results

    for kind, result in run(main).items():
        assert result.outcome in (Outcome.CANCELLED, Outcome.KILLED), kind
