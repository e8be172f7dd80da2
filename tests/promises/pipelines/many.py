"""`scripts/chaos --ci`: each CI system's cancel many times, as root and as a user."""

from __future__ import annotations

import contextlib
import json
import random
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import identity
from chaos.runner import BOTH, ROOT, USER, say

from pipelines.play import Plan, Played, missing, play
from pipelines.systems import SYSTEMS, System

ROUNDS = 50
"""Plays of each system."""


@dataclass(frozen=True)
class Round:
    """One play of the plan. number: by which it can be played again."""

    number: int
    system: System
    kind: str
    plan: Plan


def rounds(seed: int, kind: str, each: int) -> Iterator[Round]:
    """The plan: it follows from the seed alone. One system after the other, so that those that
    run at the same time differ."""
    draw = random.Random(seed)
    number = 0
    for turn in range(each):
        for system in SYSTEMS:
            plan = Plan.drawn(draw)
            kinds = (ROOT, USER) if kind == BOTH else (kind,)
            who = ROOT if system.needs_root and kind != USER else kinds[turn % len(kinds)]
            yield Round(number, system, who, plan)
            number += 1


class Many:
    """Plays some rounds at a time, and collects what is wrong. stop: begin no more of them."""

    def __init__(self, seed: int, kind: str, each: int = ROUNDS) -> None:
        self.seed, self.kind, self.each = seed, kind, each
        self.violations: list[dict[str, Any]] = []
        self.played: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.left_out: dict[str, str] = {}
        self._seconds: dict[str, list[float]] = {}
        self._lock = Lock()
        self._over = False

    def stop(self) -> None:
        self._over = True

    def run(self, posts: int, only: int | None = None) -> None:
        plan = list(rounds(self.seed, self.kind, self.each))
        if only is not None:
            plan = plan[only : only + 1]
        # Most of a play is waiting, so there are more of them than processors.
        with ThreadPoolExecutor(posts * 2) as pool:
            list(pool.map(self._one, plan))

    def _one(self, one: Round) -> None:
        reason = missing(one.system)
        if reason is None and one.system.needs_root and one.kind != ROOT:
            reason = "needs root"
        if self._over or reason is not None:
            if reason is not None:
                self.left_out[one.system.name] = reason
            return
        try:
            with contextlib.contextmanager(identity.someone)(one.kind) as person:
                played = play(one.system, person, one.plan)
        except Exception:
            played = Played([traceback.format_exc()], None, 0.0, "")
        with self._lock:
            self._take(one, played)

    def _take(self, one: Round, played: Played) -> None:
        name = one.system.name
        self.played[name] += 1
        self.codes[f"{name} {played.code}"] += 1
        self._seconds.setdefault(name, []).append(played.seconds)
        if played.complaints:
            again = f"scripts/chaos --ci --as {self.kind} --rounds {self.each}"
            again += f" --replay {self.seed}:{one.number}"
            self.violations.append(
                {"system": name, "as": one.kind, "plan": asdict(one.plan), "replay": again}
                | {"violations": played.complaints, "output": played.output}
            )
            for complaint in played.complaints:
                say(f"chaos: VIOLATION: {name}, {one.plan.phase}: {complaint}\n    {again}")
        elif sum(self.played.values()) % 20 == 0:
            say(f"chaos: {sum(self.played.values())} plays, {len(self.violations)} violations")

    def summary(self) -> str:
        lines = ["system          plays  exit codes            seconds, median and worst"]
        for name, count in self.played.items():
            times = sorted(self._seconds[name])
            codes = ", ".join(
                f"{key.split()[1]}: {n}" for key, n in sorted(self.codes.items())
                if key.split()[0] == name
            )  # fmt: skip
            lines.append(
                f"{name:15} {count:5}  {codes:20}  {times[len(times) // 2]:.1f} {times[-1]:.1f}"
            )
        lines += [f"{name}: not played: {reason}" for name, reason in self.left_out.items()]
        lines.append(f"{sum(self.played.values())} plays, {len(self.violations)} violations")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        return {
            "plays": dict(self.played),
            "exit_codes": dict(self.codes),
            "not_played": self.left_out,
            "violations": self.violations,
        }


def main(
    many: Many, posts: int, *, only: int | None, out: Path | None, header: dict[str, Any]
) -> int:
    """Returns the exit code: 1 when a promise was broken, or nothing was played."""
    many.run(posts, only)
    print(many.summary())
    if out is not None:
        out.write_text(json.dumps({**header, **many.as_json()}, indent=1) + "\n")
    return 1 if many.violations or not many.played else 0
