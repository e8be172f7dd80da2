"""The results of the bench: one line and one JSON object for each figure."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.samples import Samples

SCALES = {"s": 1.0, "ms": 1e3, "µs": 1e6, "ns": 1e9, "MB": 1e-6}
"""How many of a unit make one second, or one byte."""

Data = dict[str, Any]
"""A result as the JSON file has it."""

WORSE = 1.05
"""The ratio to another commit that a figure may have."""


@dataclass(frozen=True)
class Target:
    """What a result must be. of: "value", in the unit of the result, or "ratio", to its baseline.
    least: True if the bound is a lower one. noise: by how much noise may explain a miss."""

    bound: float
    of: str = "value"
    least: bool = False
    noise: float = 0.0

    def met_by(self, figure: float) -> bool:
        if self.least:
            return figure + self.noise >= self.bound
        return figure - self.noise <= self.bound

    def text(self, unit: str) -> str:
        """For people: "at most 30 ms"."""
        word = "at least" if self.least else "at most"
        of = "x" if self.of == "ratio" else unit
        noise = f" (noise {self.noise:.2f})" if self.noise else ""
        return f"{word} {self.bound:g} {of}{noise}".strip()


def at_most(bound: float) -> Target:
    return Target(bound)


def at_least(bound: float) -> Target:
    return Target(bound, least=True)


def ratio_at_most(bound: float, noise: float = 0.0) -> Target:
    return Target(bound, "ratio", noise=noise)


def ratio_at_least(bound: float, noise: float = 0.0) -> Target:
    return Target(bound, "ratio", least=True, noise=noise)


@dataclass(frozen=True)
class Result:
    """One figure. value, baseline: in `unit`. baseline: what it is measured against, in the same
    run. ratio: of the value to it."""

    suite: str
    name: str
    value: float
    unit: str
    baseline: float | None = None
    target: Target | None = None
    paired: float | None = None
    """The median of the ratios of rounds, where that is known. It suffers less from load than the
    ratio of the medians."""
    judged: bool = True
    """False in a smoke run: its figures say nothing about speed."""

    @property
    def ratio(self) -> float | None:
        if self.paired is not None:
            return self.paired
        return self.value / self.baseline if self.baseline else None

    @property
    def met(self) -> bool | None:
        if self.target is None or not self.judged:
            return None
        figure = self.ratio if self.target.of == "ratio" else self.value
        return None if figure is None else self.target.met_by(figure)

    def data(self) -> Data:
        return {
            "suite": self.suite,
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "baseline": self.baseline,
            "ratio": self.ratio,
            "target": None if self.target is None else self.target.text(self.unit),
            "met": self.met,
        }

    def line(self) -> str:
        baseline = "" if self.baseline is None else f"{self.baseline:11.3f}"
        ratio = "" if self.ratio is None else f"{self.ratio:8.2f} x"
        target = "" if self.target is None else self.target.text(self.unit)
        verdict = {None: "", True: "met", False: "MISSED"}[self.met]
        return (
            f"{self.name:62} {self.value:11.3f} {self.unit:8} {baseline:>11} {ratio:>10}"
            f"  {target:26} {verdict}"
        ).rstrip()


def say_at_once(text: str) -> None:
    """Prints a line as soon as it is known, to a pipe, too."""
    print(text, flush=True)


@dataclass
class Sheet:
    """Collects the results and the notes of a run, and prints them as they come."""

    say: Callable[[str], object] = say_at_once
    judges: bool = True
    suite: str = ""
    results: list[Result] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def begin(self, suite: str) -> None:
        self.suite = suite
        head = f"{'value':>11} {'':8} {'baseline':>11} {'ratio':>10}  target"
        self.say(f"\n{suite:62} {head}")

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        baseline: float | None = None,
        target: Target | None = None,
        paired: float | None = None,
    ) -> float:
        """Keeps one result and returns its value. value, baseline: in `unit`."""
        result = Result(self.suite, name, value, unit, baseline, target, paired, self.judges)
        self.results.append(result)
        self.say(result.line())
        return value

    def take(
        self,
        name: str,
        samples: Samples,
        unit: str,
        *,
        baseline: float | None = None,
        p50: Target | None = None,
        p99: Target | None = None,
    ) -> None:
        """Keeps the median and the 99th percentile. samples, baseline: in seconds or bytes."""
        scale = SCALES.get(unit, 1.0)
        against = None if baseline is None else baseline * scale
        self.add(f"{name}, p50", samples.p50 * scale, unit, baseline=against, target=p50)
        self.add(f"{name}, p99", samples.p99 * scale, unit, target=p99)

    def beside(
        self, name: str, here: Samples, there: Samples, unit: str, ref: str, least: float = 0.0
    ) -> None:
        """Keeps the ratio to another commit. least: what the ratio must reach, where more is
        better; without it, the figure may be 5 % worse."""
        scale = SCALES.get(unit, 1.0)
        ratio, noise = here.ratio_to(there)
        target = ratio_at_least(least, 2 * noise) if least else ratio_at_most(WORSE, 2 * noise)
        self.add(
            f"{name}, beside {ref}",
            here.p50 * scale,
            unit,
            baseline=there.p50 * scale,
            target=target,
            paired=ratio,
        )

    def note(self, text: str) -> None:
        """Keeps what was not measured, and why."""
        self.notes.append(text)
        self.say(f"note: {text}")

    def fail(self, text: str) -> None:
        """Keeps that a figure could not be taken which always can."""
        self.failures.append(text)
        self.note(text)

    @property
    def missed(self) -> list[Result]:
        return [one for one in self.results if one.met is False]

    def write(self, path: Path) -> None:
        host = {"kernel": os.uname().release, "cpus": os.cpu_count(), "python": sys.version}
        results = [one.data() for one in self.results]
        found = {"results": results, "notes": self.notes, "host": host}
        path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def read(path: Path) -> Sequence[Data]:
    """The results that `Sheet.write` has written. Raises OSError, and ValueError if the file holds
    something else."""
    found = json.loads(path.read_text())
    if not isinstance(found, dict) or not isinstance(found.get("results"), list):
        raise ValueError(f"{path} holds no results of scripts/bench")
    results: list[Data] = found["results"]
    return results
