"""What a segment had used of its budgets at each moment, as curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sandbox_agent.reports.page.numbers import count, dollars
from sandbox_agent.reports.page.spans import Times


class Curve(NamedTuple):
    """points: of an SVG polyline. limited: whether its full height is a budget. label: what was
    used, and of how much."""

    kind: str
    points: str
    limited: bool
    label: str


@dataclass(frozen=True)
class Budgets:
    """None: no limit. time: seconds."""

    turns: float | None = None
    tokens: float | None = None
    cost_usd: float | None = None
    time: float | None = None

    def curves(
        self, times: Times, x: Callable[[float], float], top: int, height: int
    ) -> list[Curve]:
        """One curve for each of turns, tokens and cost, if the model tells them. x: of a time."""
        steps: dict[str, list[tuple[float, float]]] = {"turns": [], "tokens": [], "cost": []}
        used = dict.fromkeys(steps, 0.0)
        told: set[str] = {"turns"}
        for turn in times.turns:
            used["turns"] += 1
            if turn.usage is not None:
                used["tokens"] += turn.usage.total
                used["cost"] += turn.usage.cost_usd or 0.0
                told |= {"tokens"} if turn.usage.cost_usd is None else {"tokens", "cost"}
            for kind, value in used.items():
                steps[kind].append((turn.seconds, value))
        limits = {"turns": self.turns, "tokens": self.tokens, "cost": self.cost_usd}
        for points in steps.values():
            points += [(times.segment.last, points[-1][1])] if points else []
        return [
            _curve(kind, steps[kind], limits[kind], x, top, height)
            for kind in steps
            if kind in told and steps[kind]
        ]


def budgets_of(settings: Mapping[str, Any]) -> Budgets:
    """The budgets of recorded settings."""
    found = settings.get("budgets")
    if not isinstance(found, Mapping):
        return Budgets()
    numbers = {
        name: float(found[name])
        for name in Budgets.__dataclass_fields__
        if isinstance(found.get(name), int | float) and found[name] > 0
    }
    return Budgets(**numbers)


def _curve(
    kind: str,
    steps: list[tuple[float, float]],
    limit: float | None,
    x: Callable[[float], float],
    top: int,
    height: int,
) -> Curve:
    """A curve in steps. Without a budget, its last value is its full height."""
    full = limit or steps[-1][1] or 1.0
    bottom = top + height
    levels: dict[int, float] = {}
    for seconds, value in steps:
        levels[round(x(seconds))] = round(bottom - min(value / full, 1.0) * height, 1)
    before: float = bottom
    place = 0
    points = [f"{round(x(0))},{bottom}"]
    for place, level in levels.items():
        if level != before:
            points += [f"{place},{before:g}", f"{place},{level:g}"]
            before = level
    points.append(f"{place},{before:g}")
    label = _label(kind, steps[-1][1], limit)
    return Curve(kind, " ".join(points), limit is not None, label)


def _label(kind: str, used: float, limit: float | None) -> str:
    if kind == "cost":
        return f"cost: {dollars(used)}" + (f" of {dollars(limit)}" if limit else ", no budget")
    one = count(int(used), kind.removesuffix("s"))
    return f"{one} of {int(limit):,}" if limit else f"{one}, no budget"
