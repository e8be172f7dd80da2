"""Whether this host can do a full plan. It is asked only when building a sandbox has failed."""

from __future__ import annotations

from sandbox_agent_sandbox.policy.kinds.found import Found
from sandbox_agent_sandbox.policy.probe import HostFacts, probe


def try_full(facts: HostFacts) -> Found:
    """Try each of its needs in a child."""
    failed = next((check for check in probe() if check.needed and not check.ok), None)
    if failed is None:
        return Found(works=True)
    return Found(works=False, why=f"{failed.name}: {failed.detail}", hint=failed.hint)
