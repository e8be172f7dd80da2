"""What a run of chaos comes to, as JSON and for people."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable
from typing import Any

from chaos import checks
from chaos.plan import COMMAND, LEGAL, UNDER_WAY, Cause, Phase

ENOUGH = 20
"""Hits that every legal pair has in a full run."""

FULL = 14_000
"""Rounds of a full run."""

RUNGS = (
    "flag",
    "term",
    "kill",
    "no call",
    "model",
    "model stopped",
    "close",
    "command's own end",
    "agent killed",
)

MEDIAN = {
    "flag": 60.0,
    "term": 60.0,
    "kill": 60.0,
    "no call": 60.0,
    "model": 60.0,
    "model stopped": 120.0,  # of which freeing litellm's 200 MB is half, on a busy machine
    "agent killed": 120.0,
}
"""Milliseconds that the median of a rung may be late, so that a slow ladder shows however much
noise single rounds are allowed. Judged from `JUDGED` rounds on."""

JUDGED = 8

RATE = 0.6
"""Share of the calls that must behave as their rung promises; the rest may be the noise's."""

Verdict = dict[str, Any]


class Report:
    """Takes in verdicts as they come."""

    def __init__(self) -> None:
        self.rounds = 0
        self.struck = 0
        self.in_flight = 0
        self.missed = 0
        self.by_identity: Counter[str] = Counter()
        self.commands = 0
        self.lone = 0
        self.hits: dict[str, Counter[tuple[str, str]]] = {table: Counter() for table in LEGAL}
        self.aimed: Counter[tuple[str, str]] = Counter()
        self.latency: dict[str, list[float]] = {}
        self.slowest: dict[str, list[tuple[float, int, str, str]]] = {}
        self.rates: dict[str, list[int]] = {}
        self.violations: list[dict[str, Any]] = []
        self.together = 0
        self.exceptions: list[dict[str, Any]] = []
        self.left_out: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()

    def add(self, verdict: Verdict, identity: str) -> None:
        self.rounds += 1
        self.by_identity[identity] += 1
        self.commands += verdict["command"]
        self.lone += verdict["lone"]
        self.notes.update(verdict["notes"])
        self.together += verdict["together"]
        if verdict["excepted"]:
            self.exceptions.append(
                {"round": verdict["round"], "as": identity, "left": verdict["excepted"]}
            )
        for rate, (good, number) in verdict["rates"].items():
            row = self.rates.setdefault(rate, [0, 0])
            row[0] += good
            row[1] += number
        for rung, late in verdict["latency"].items():
            self.latency.setdefault(rung, []).append(late)
            slowest = self.slowest.setdefault(rung, [])
            slowest.append((round(late, 1), verdict["round"], identity, verdict["cause"]))
            slowest.sort(reverse=True)
            del slowest[5:]
        self.aimed[verdict["planned"], verdict["cause"]] += 1
        if verdict["phase"] is None:
            self.missed += 1
        else:
            self.struck += 1
            self.in_flight += verdict["phase"] in UNDER_WAY
            if verdict["phase"] == Phase.MODEL:
                self._hit("waits x cause", verdict["waits"], verdict["cause"])
            self._hit("phase x cause", verdict["phase"], verdict["cause"])
            for tool in verdict["hit"]:
                self._hit("tool x cause", tool, verdict["cause"])
                self._hit("tool x phase", tool, verdict["phase"])

    def _hit(self, table: str, one: str, other: str) -> None:
        self.hits[table][one, other] += 1

    def as_a_rule(self) -> list[str]:
        """What single rounds cannot show for noise: rungs that are slow, tools that do not hear."""
        deaf = [
            f"rates: {rate}: {good} of {number}"
            for rate, (good, number) in self.rates.items()
            if number >= JUDGED and good < number * RATE
        ]
        return deaf + [
            f"bounded: the median of rung '{rung}' is {statistics.median(times):.0f} ms late"
            for rung, times in self.latency.items()
            if len(times) >= JUDGED and statistics.median(times) > MEDIAN.get(rung, math.inf)
        ]

    def fewest(self) -> dict[str, tuple[int, list[str]]]:
        """For each table, the smallest number of hits of a legal pair, and which pairs have it."""
        found = {}
        for table, legal in LEGAL.items():
            # Without root no file system is frozen.
            root = self.by_identity["root"]
            pairs = [pair for pair in legal if root or pair[1] != Cause.FREEZE_DISK]
            least = min(self.hits[table][pair] for pair in pairs)
            found[table] = (
                least,
                [f"{a} x {b}" for a, b in pairs if self.hits[table][a, b] == least],
            )
        return found

    def as_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            "rounds": self.rounds,
            "by_identity": dict(self.by_identity),
            "by_command": self.commands,
            "by_exec": self.lone,
            "struck": self.struck,
            "came_too_late": self.missed,
            "in_flight": self.in_flight,
            "in_flight_share": round(self.in_flight / max(1, self.rounds), 4),
            "bounds": {
                "beyond_grace_and_term_ms": checks.BOUND * 1000,
                "agent_killed_ms": checks.AGENT_BOUND * 1000,
                "noise_allowance_ms": checks.NOISE * 1000,
                "start_noise_ms": checks.START_NOISE * 1000,
            },
            "latency_ms": {r: percentiles(self.latency[r]) for r in RUNGS if r in self.latency},
            "rates": self.rates,
            "slowest": self.slowest,
            "hits": {
                table: {f"{a} x {b}": self.hits[table][a, b] for a, b in pairs}
                for table, pairs in LEGAL.items()
            },
            "aimed": {f"{a} x {b}": self.aimed[a, b] for a, b in LEGAL["phase x cause"]},
            "fewest_hits": {table: least for table, (least, _) in self.fewest().items()},
            "notes": dict(self.notes),
            "left_out": dict(self.left_out),
            "killed_together": self.together,
            "exceptions": self.exceptions,
            "violations": self.violations,
        }

    def summary(self) -> str:
        """The same in a screenful."""
        data = self.as_json()
        who = ", ".join(f"{count} as {kind}" for kind, count in self.by_identity.items())
        noise = f"{checks.NOISE * 1000:.0f} ms of noise are allowed"
        columns = ("rounds", "p50", "p90", "p99", "max")
        lines = [
            f"{self.rounds} rounds ({who}; {self.commands} by the command line,"
            f" of which {self.lone} by exec),"
            f" {len(self.violations)} violations",
            f"struck a call or a request in flight: {data['in_flight_share']:.1%}; the run was over"
            f" before the strike: {self.missed}",
            *self._apart(),
            "",
            f"{'milliseconds beyond the rung':28} " + " ".join(f"{c:>7}" for c in columns),
        ]
        for rung, row in data["latency_ms"].items():
            figures = " ".join(f"{row[key]:7.1f}" for key in ("p50", "p90", "p99", "max"))
            lines.append(f"{rung:28} {row['n']:7} {figures}")
        lines += [
            f"(bound: grace + term + {checks.BOUND * 1000:.0f} ms, agent killed"
            f" {checks.AGENT_BOUND * 1000:.0f} ms; {noise})",
            "",
        ]
        lines += [f"{rate}: {good} of {number}" for rate, (good, number) in self.rates.items()]
        for table, (least, pairs) in self.fewest().items():
            shown = ", ".join(pairs[:4]) + (", ..." if len(pairs) > 4 else "")
            lines.append(f"{table}: {len(LEGAL[table])} legal pairs, fewest hits {least}: {shown}")
        lines += ["", *self._table("phase x cause")]
        return "\n".join(lines)

    def _apart(self) -> Iterable[str]:
        """What is no violation, and is told all the same."""
        if self.together:
            yield (
                f"agent, spawner, supervisors and starters killed in one moment: {self.together};"
                f" of these left something until the next start: {len(self.exceptions)}"
            )
        for why, rounds in self.left_out.items():
            yield f"left out: {rounds} rounds: {why}"

    def _table(self, name: str) -> Iterable[str]:
        rows = list(dict.fromkeys(pair[0] for pair in LEGAL[name]))
        legal = set(LEGAL[name])
        yield f"{'':22} " + " ".join(f"{row:>9}" for row in rows)
        for cause in Cause:
            cells = (
                str(self.hits[name][row, cause]) if (row, cause) in legal else "-" for row in rows
            )
            mark = " (command)" if cause in COMMAND else ""
            yield f"{cause + mark:22} " + " ".join(f"{cell:>9}" for cell in cells)


def percentiles(times: list[float]) -> dict[str, float]:
    """n, p50, p90, p99, max."""
    ordered = sorted(times)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)

    return {"n": len(ordered), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1)}
