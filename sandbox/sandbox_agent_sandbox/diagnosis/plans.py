"""What each kind of plan would keep here, and whether this host can do it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sandbox_agent_sandbox.diagnosis.container import Diagnosed, diagnose
from sandbox_agent_sandbox.diagnosis.signs import read_signs
from sandbox_agent_sandbox.errors import NoPlan, SandboxError, SandboxUnavailable
from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.kinds.choose import found
from sandbox_agent_sandbox.policy.kinds.found import Found
from sandbox_agent_sandbox.policy.kinds.full import full_by
from sandbox_agent_sandbox.policy.kinds.left_open import LEFT_OPEN
from sandbox_agent_sandbox.policy.levels import Level, facts
from sandbox_agent_sandbox.policy.make_plan import make_plan
from sandbox_agent_sandbox.policy.probe import Check, host_facts

if TYPE_CHECKING:
    from sandbox_agent_sandbox.policy.any_policy import AnyPolicy


class Standing(msgspec.Struct, frozen=True):
    """One kind of plan on this host.

    works: whether this host can do it. why, hint: why not. levels: of each field and layer, for
    this policy; empty where this policy cannot be planned. left_open: what it leaves open outside.
    """

    plan: PlanKind
    works: bool
    why: str
    hint: str
    levels: dict[str, Level]
    left_open: list[str]


def standings(policy: AnyPolicy, workspace: Path, checks: Sequence[Check]) -> list[Standing]:
    """Every kind, the strongest first. checks: of `probe`. Some children are started."""
    host = host_facts()
    tried: list[tuple[PlanKind, Found]] = [(PlanKind.FULL, full_by(checks))]
    tried += [(kind, found(kind, host)) for kind in PlanKind if kind is not PlanKind.FULL]
    return [
        Standing(
            kind, one.works, one.why, one.hint, _levels(policy, workspace, kind), [*LEFT_OPEN[kind]]
        )
        for kind, one in tried
    ]


def _levels(policy: AnyPolicy, workspace: Path, kind: PlanKind) -> dict[str, Level]:
    try:
        plan = make_plan(policy, host_facts(), workspace=workspace, kind=kind)
    except SandboxError:
        return {}
    return {fact.name: fact.level for fact in facts(plan)}


def with_change(failure: NoPlan, policy: AnyPolicy) -> SandboxUnavailable:
    """The failure, with the smallest change that makes a plan possible as its hint."""
    if policy.plan == PlanKind.NO_NAMESPACES.value:
        return failure  # what it lacks, namespaces do not give
    try:
        found = diagnosed()
    except SandboxUnavailable:  # no process is left, for instance
        return failure
    what, _, hint = str(failure).partition("; hint: ")
    hint = f"{found.hint} (this is {found.place}: {found.cause})" if found.hint else hint
    return SandboxUnavailable(f"{what}; hint: {hint}" if hint else what)


def diagnosed() -> Diagnosed:
    """Where this is, and the smallest change that gives a stronger plan.

    Raises SandboxUnavailable where no child can be started.
    """
    return diagnose(read_signs(os.environ))
