"""By what a run's tools were kept inside, as lines for a person. For a full plan that keeps all
that was asked for there is nothing to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.kinds.left_open import name_of
from sandbox_agent_sandbox.policy.levels import Level

from sandbox_agent.reports.escape import one_line

_WORDS = {
    PlanKind.SHARED_PROC: "namespaces, without a /proc of its own",
    PlanKind.NO_NAMESPACES: "Landlock and seccomp, without namespaces",
}
_HINT = "`sandbox-agent doctor` says what it leaves open, and how to get a stronger one"
_WATCHED_ANYWAY = frozenset({"limits.memory", "limits.call_memory", "limits.tmp", "limits.disk"})
"""What a full plan only watches, too, for an ordinary user."""
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
    missing = (f"{_MISSING}{name}: {why}" for name, why in missing_in(plan).items())
    return [one_line(masked(line), _LONGEST) for line in (*_lines(plan), *missing)]


def first_lines(plan: Mapping[str, Any] | None) -> list[str]:
    """The same for the progress, where a warning has just said why something is missing."""
    names = ", sandbox.".join(missing_in(plan))
    missing = [_MISSING + names] if names else []
    return [one_line(line, _LONGEST) for line in (*_lines(plan), *missing)]


_MISSING = "MISSING, as --allow-degraded allows: sandbox."


def plan_line(plan: Mapping[str, Any] | None) -> str:
    """The kind of a plan that is not full, in one line; else ""."""
    kind = plan_of(plan)
    if kind in ("", PlanKind.FULL):
        return ""
    words = next((text for known, text in _WORDS.items() if known == kind), "of another version")
    return one_line(f"plan {kind}: {words} ({_HINT})", _LONGEST)


def _lines(plan: Mapping[str, Any] | None) -> Iterator[str]:
    if plan is None:
        return
    if line := plan_line(plan):
        yield line
        if restored := _restored(plan):
            yield f"restored, not prevented: {', '.join(restored)}"
        left_open = plan.get("left_open")
        if isinstance(left_open, list) and left_open:
            yield f"open outside: {'; '.join(name_of(str(one)) for one in left_open)}"


def _restored(plan: Mapping[str, Any]) -> list[str]:
    """The fields that are restored for want of a stronger plan, of those that were asked for."""
    levels = plan.get("levels")
    if not isinstance(levels, dict):
        return []
    skipped = {*_WATCHED_ANYWAY}
    if plan_of(plan) == PlanKind.SHARED_PROC:
        skipped.add("protect_defaults")
    if not plan.get("protected", True):
        skipped.add("protect")
    names = (str(name) for name, level in levels.items() if level == Level.RESTORED)
    return [name for name in names if name not in skipped]
