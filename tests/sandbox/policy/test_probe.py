"""The checks of `doctor`: on a host where sandboxes run, none of them fails."""

from __future__ import annotations

from pathlib import Path

from sandbox_agent_sandbox.policy.probe import probe


def test_every_check_works_where_sandboxes_work(tmp_path: Path) -> None:
    checks = probe(tmp_path)
    assert len(checks) >= 8
    failed = {check.name: check.detail for check in checks if not check.ok}
    assert failed == {}
