"""By what a run's tools were kept inside, as lines for a person. For a full plan that keeps all
that was asked for there is nothing to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.levels import Level

from sandbox_agent.reports.escape import one_line

_WORDS = {
    PlanKind.SHARED_PROC: "namespaces, without a /proc of its own",
    PlanKind.NO_NAMESPACES: "Landlock and seccomp, without namespaces",
}
_HINT = "`sandbox-agent doctor` says how to get a stronger one"
_LONGEST = 400


def plan_of(plan: Mapping[str, Any] | None) -> str:
    """The kind of a recorded plan; "" where there was none. Runs of older versions name none."""
    return "" if plan is None else str(plan.get("kind", PlanKind.FULL))


def missing_in(plan: Mapping[str, Any] | None) -> dict[str, str]:
    """The fields that were asked for, missing, and allowed to be, each with the reason."""
    found = None if plan is None else plan.get("missing")
    if not isinstance(found, dict):
        return {}
    return {str(name): str(why) for name, why in found.items()}


def wall_lines(
    plan: Mapping[str, Any] | None, masked: Callable[[str], str] = lambda text: text
) -> list[str]:
    """plan: of a segment, as it is recorded. masked: replaces secrets in a text."""
    return [one_line(masked(line), _LONGEST) for line in _lines(plan)]


def _lines(plan: Mapping[str, Any] | None) -> Iterator[str]:
    if plan is None:
        return
    kind = plan_of(plan)
    if kind != PlanKind.FULL:
        words = next((text for known, text in _WORDS.items() if known == kind), "")
        yield f"plan {kind}: {words or 'of another version'} ({_HINT})"
        levels = plan.get("levels")
        if isinstance(levels, dict):
            names = [str(name) for name, level in levels.items() if level == Level.RESTORED]
            yield f"restored, not prevented: {', '.join(names) or 'nothing'}"
        left_open = plan.get("left_open")
        if isinstance(left_open, list) and left_open:
            yield f"open outside: {'; '.join(map(str, left_open))}"
    for name, why in missing_in(plan).items():
        yield f"MISSING, as --allow-degraded allows: sandbox.{name}: {why}"
