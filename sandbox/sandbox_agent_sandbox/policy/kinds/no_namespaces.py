"""Whether this host can do a plan without namespaces."""

from __future__ import annotations

from sandbox_agent_sandbox.policy.kinds.found import Found
from sandbox_agent_sandbox.policy.probe import HostFacts


def try_no_namespaces(facts: HostFacts) -> Found:
    """Try it in a child."""
    return Found(works=False, why="this version cannot do it", hint="")
