"""Whether this host can do a full plan. It is asked only when building a sandbox has failed."""

from __future__ import annotations

from collections.abc import Iterable

from sandbox_agent_sandbox.policy.kinds.found import Found
from sandbox_agent_sandbox.policy.probe import Check, HostFacts, checks


def try_full(facts: HostFacts) -> Found:
    """Try its needs, each in a child, up to the first that is refused."""
    return full_by(checks())


def full_by(tried: Iterable[Check]) -> Found:
    """What follows from the checks of its needs."""
    failed = next((check for check in tried if check.needed and not check.ok), None)
    if failed is None:
        return Found(works=True)
    return Found(works=False, why=f"{failed.name}: {failed.detail}", hint=failed.hint)
