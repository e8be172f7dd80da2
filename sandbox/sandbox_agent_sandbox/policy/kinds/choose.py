"""The kind of plan for a sandbox, by what the policy asks for and this host can do.

A host that can do a full plan is not asked: the sandbox is built, and only where that fails the
kinds are tried, each in a child, and once in a process. So a full plan costs nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sandbox_agent_sandbox.errors import SandboxUnavailable
from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.kinds.found import Found
from sandbox_agent_sandbox.policy.kinds.full import try_full
from sandbox_agent_sandbox.policy.kinds.no_namespaces import try_no_namespaces
from sandbox_agent_sandbox.policy.kinds.shared_proc import try_shared_proc
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.policy.probe import HostFacts

TRIALS: Mapping[PlanKind, Callable[[HostFacts], Found]] = {
    PlanKind.FULL: try_full,
    PlanKind.SHARED_PROC: try_shared_proc,
    PlanKind.NO_NAMESPACES: try_no_namespaces,
}
"""The strongest first."""

AUTO = "auto"

_known: dict[PlanKind, Found] = {}
"""What has been tried in this process."""


def found(kind: PlanKind, facts: HostFacts) -> Found:
    """Whether this host can do a kind. It is tried once in a process."""
    if kind not in _known:
        _known[kind] = TRIALS[kind](facts)
    return _known[kind]


def choose_at_once(policy: Policy) -> PlanKind | None:
    """The kind to build by where nothing has to be tried for it; else None."""
    wanted = _kinds(policy)[0]
    tried = policy.plan == AUTO and wanted in _known
    return wanted if wanted is PlanKind.FULL and not tried else None


def choose(policy: Policy, facts: HostFacts) -> PlanKind:
    """The kind that a sandbox is to be built by.

    Raises SandboxUnavailable, with all reasons, where this host can do none that the policy allows.
    """
    at_once = choose_at_once(policy)
    if at_once is not None:
        return at_once
    kinds = _kinds(policy)
    for kind in kinds:
        if found(kind, facts).works:
            return kind
    raise SandboxUnavailable(_refusal(kinds))


def choose_again(
    policy: Policy, facts: HostFacts, kind: PlanKind, failure: SandboxUnavailable
) -> PlanKind:
    """The kind to build by when a sandbox of this kind could not be built.

    Raises the failure itself where this host can do the kind, or the policy names it: then the
    reason is another one. Raises SandboxUnavailable where it can do none.
    """
    if policy.plan != AUTO or found(kind, facts).works:
        raise failure
    return choose(policy, facts)


def _kinds(policy: Policy) -> list[PlanKind]:
    """What the policy allows, the strongest first."""
    return list(TRIALS) if policy.plan == AUTO else [PlanKind(policy.plan)]


def _refusal(kinds: list[PlanKind]) -> str:
    reasons = []
    for kind in kinds:
        tried = _known[kind]
        hint = f"; hint: {tried.hint}" if tried.hint else ""
        reasons.append(f"the plan {kind} cannot be done here: {tried.why}{hint}")
    return "\n".join(reasons)
