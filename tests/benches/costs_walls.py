"""What the walls cost: this tree beside another commit, in turns. `scripts/bench walls`.

The figures are differences, each with its bound. Ratios would say nothing here: a simple system
call takes 100 ns, and a filter of system calls adds 30 ns to it.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import against

CALLS = 40
"""Of one sandbox."""
COMMANDS = 4
"""In a round."""


@dataclass(frozen=True)
class Bound:
    """unit: of what is printed. scale: how many of it make a second. most: seconds that a figure
    may be more than that of the other commit."""

    unit: str
    scale: float
    most: float


BOUNDS: Mapping[str, Bound] = {
    "a call in an open sandbox": Bound("ms", 1e3, 0.5e-3),
    "exec -- /bin/true": Bound("ms", 1e3, 0.5e-3),
    "a simple system call (getppid)": Bound("ns", 1e9, 40e-9),
    "open and close a file": Bound("ns", 1e9, 1.5e-6),
}


@dataclass(frozen=True)
class Difference:
    """Of one figure, in seconds: the medians of both, the median of the rounds' differences, and
    the standard error of that median."""

    what: str
    here: float
    there: float
    more: float
    noise: float
    rounds: int

    @property
    def over(self) -> bool:
        """Whether it is over its bound by more than noise explains."""
        return self.more - 2 * self.noise > BOUNDS[self.what].most

    def line(self) -> str:
        unit, scale = BOUNDS[self.what].unit, BOUNDS[self.what].scale
        return (
            f"{self.what:34} {self.here * scale:9.2f} {unit} {self.there * scale:9.2f} {unit}"
            f" {self.more * scale:+9.2f} ± {self.noise * scale:.2f} {unit}"
            f" {BOUNDS[self.what].most * scale:+8.1f} {unit}{'  OVER' if self.over else ''}"
        )


def difference(what: str, here: Sequence[float], there: Sequence[float]) -> Difference:
    """here, there: of the same rounds."""
    each = [a - b for a, b in zip(here, there, strict=True)]
    middle = statistics.median(each)
    # As in `against.compare`: the standard error of a median, from the median deviation.
    spread = 1.4826 * statistics.median(abs(one - middle) for one in each)
    noise = 1.2533 * spread / math.sqrt(len(each))
    return Difference(
        what, statistics.median(here), statistics.median(there), middle, noise, len(each)
    )


def figures(one: against.Product) -> dict[str, float]:
    call, execution, simple, opening = BOUNDS
    runs = str(one.folder / "tmp" / "runs")
    system_call, opened = json.loads(one.program("system_calls").out)
    return {
        # Of many the fast ones: what else the machine does only makes one slower.
        call: sorted(json.loads(one.program("each_call", CALLS).out))[CALLS // 10],
        execution: min(
            one.command("exec", "--out", runs, "--", "/bin/true").wall for _ in range(COMMANDS)
        ),
        simple: system_call,
        opening: opened,
    }


def measure(ref: str, rounds: int, say: Callable[[str], None] = print) -> list[Difference]:
    """Measure this tree and the commit `ref` in turns, and print the differences. Raises
    `against.CannotMeasure`."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory(prefix="against-") as folder:
        both = against.products(Path(folder), ref)
        for number in range(-1, rounds):
            for one in both if number % 2 else reversed(both):
                for what, figure in figures(one).items():
                    if number >= 0:  # in the first one files are read once
                        found[what][one.name].append(figure)
            print(f"\rround {number + 1} of {rounds}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        here, there = (one.name for one in both)
    say(f"\n{'':34} {'here':>12} {ref[:11]:>12} {'more':>22} {'bound':>11}")
    differences = [difference(what, two[here], two[there]) for what, two in found.items()]
    for one in differences:
        say(one.line())
    return differences
