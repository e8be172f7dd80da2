"""Rounds: everybody is measured once in each, so that what else the machine does falls on all."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from bench.errors import CannotMeasure
from bench.samples import Samples

Figures = Mapping[str, Sequence[float]]
"""Of one round, by their names."""
Taken = dict[str, dict[str, Samples]]
"""By who was measured, and by the names of the figures."""


def interleaved(
    what: str,
    contestants: Mapping[str, Callable[[], Figures]],
    rounds: int,
    *,
    warm: bool = True,
    give_up: Callable[[str], object] | None = None,
) -> Taken:
    """Measures all contestants in turns.

    what: for the line that shows the progress. warm: a round before the others is not counted; in
    it files are read and pages are touched. give_up: is told why a contestant other than the first
    cannot be measured, which then takes no part. Without it, and for the first, CannotMeasure is
    raised.
    """
    order = list(contestants)
    first = order[0]
    found: dict[str, dict[str, list[Sequence[float]]]] = {}
    for number in range(0 if warm else 1, rounds + 1):
        for name in list(order):
            try:
                figures = contestants[name]()
            except CannotMeasure as error:
                if name == first or give_up is None:
                    raise
                give_up(str(error))
                order.remove(name)
                found.pop(name, None)
                continue
            if number:
                mine = found.setdefault(name, defaultdict(list))
                for figure, values in figures.items():
                    mine[figure].append(values)
        order.append(order.pop(0))  # nobody is always first
        if sys.stderr.isatty():
            print(f"\r{what}: round {number} of {rounds} ", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return {
        name: {figure: Samples.of(values) for figure, values in figures.items()}
        for name, figures in found.items()
    }
