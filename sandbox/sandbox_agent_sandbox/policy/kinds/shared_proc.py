"""Whether this host can do a plan with namespaces and without a fresh /proc."""

from __future__ import annotations

from sandbox_agent_sandbox.policy.kinds.found import Found
from sandbox_agent_sandbox.policy.probe import HostFacts


def try_shared_proc(facts: HostFacts) -> Found:
    """Try it in a child."""
    return Found(works=False, why="this version cannot do it", hint="")
