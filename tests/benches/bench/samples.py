"""The statistics of the bench: every median, percentile and ratio is computed here."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


def median(figures: Sequence[float]) -> float:
    return statistics.median(figures)


def p99(figures: Sequence[float]) -> float:
    """The 99th percentile by the nearest rank. Of fewer than 100 figures it is the largest."""
    return sorted(figures)[max(0, math.ceil(len(figures) * 0.99) - 1)]


def noise_of(figures: Sequence[float]) -> float:
    """The standard error of the median.

    Of normal noise, 1.4826 times the median deviation is one standard deviation, and the standard
    error of a median is 1.2533 times that of the mean.
    """
    middle = median(figures)
    spread = 1.4826 * median([abs(one - middle) for one in figures])
    return 1.2533 * spread / math.sqrt(len(figures))


class Compared(NamedTuple):
    """A median, and its standard error."""

    middle: float
    noise: float


@dataclass(frozen=True)
class Samples:
    """The figures of one thing, in the rounds in which they were taken."""

    rounds: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, rounds: Iterable[Sequence[float]]) -> Samples:
        return cls(tuple(tuple(one) for one in rounds if one))

    @property
    def all(self) -> tuple[float, ...]:
        return tuple(figure for one in self.rounds for figure in one)

    @property
    def p50(self) -> float:
        return median(self.all)

    @property
    def p99(self) -> float:
        return p99(self.all)

    def _beside(self, other: Samples) -> list[tuple[float, float]]:
        """The medians of each round. What else the machine does in a round falls on both."""
        pairs = zip(self.rounds, other.rounds, strict=True)
        return [(median(one), median(two)) for one, two in pairs]

    def ratio_to(self, other: Samples) -> Compared:
        """The median of the ratios of the rounds."""
        ratios = [one / two for one, two in self._beside(other)]
        return Compared(median(ratios), noise_of(ratios))

    def more_than(self, other: Samples) -> Compared:
        """The median of the differences of the rounds."""
        differences = [one - two for one, two in self._beside(other)]
        return Compared(median(differences), noise_of(differences))
