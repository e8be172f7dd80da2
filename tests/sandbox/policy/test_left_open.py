"""What a plan leaves open outside is the same in the code, which `doctor` and records show, and in
sandbox/README.md. Who changes one has to look at both."""

from __future__ import annotations

from paths import CHECKOUT
from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.policy.kinds.left_open import LEFT_OPEN

HEAD = "`{}` leaves open outside, though no field of a policy allows it:"


def listed(kind: PlanKind) -> list[str]:
    """The list below the plan's head; none where there is no head."""
    lines = (CHECKOUT / "sandbox" / "README.md").read_text().splitlines()
    if HEAD.format(kind) not in lines:
        return []
    found = []
    for line in lines[lines.index(HEAD.format(kind)) + 2 :]:
        if not line.startswith("- "):
            break
        found.append(line.removeprefix("- "))
    return found


def test_the_manual_lists_what_each_plan_leaves_open() -> None:
    assert {kind: listed(kind) for kind in PlanKind} == {
        kind: list(LEFT_OPEN[kind]) for kind in PlanKind
    }
    assert not LEFT_OPEN[PlanKind.FULL]
    assert LEFT_OPEN[PlanKind.NO_NAMESPACES]
