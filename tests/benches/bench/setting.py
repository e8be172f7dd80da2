"""What a suite gets: the products, the peers, and where its results go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from bench.peers import Peers
from bench.products import Product
from bench.results import Sheet
from bench.rounds import Figures, Taken, interleaved

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """rounds: how often each figure is taken; None for what the suite thinks right. quick: a smoke
    run, which shows that everything can be measured, and nothing else."""

    sheet: Sheet
    peers: Peers
    here: Product
    there: Product | None = None
    rounds: int | None = None
    quick: bool = False

    def size(self, full: T, quick: T) -> T:
        return quick if self.quick else full

    def times(self, full: int) -> int:
        """How many rounds a suite makes that thinks `full` of them right."""
        return self.rounds or self.size(full, 1)

    @property
    def products(self) -> list[Product]:
        """The working tree first."""
        return [self.here] if self.there is None else [self.here, self.there]

    def interleaved(
        self,
        what: str,
        contestants: dict[str, Callable[[], Figures]],
        rounds: int,
        *,
        warm: bool = True,
    ) -> Taken:
        """See `rounds.interleaved`. Without the working tree there are no figures; what else
        cannot be measured is noted."""

        def give_up(why: str) -> None:
            self.sheet.note(f"skipped: {why}")

        warm = warm and not self.quick
        return interleaved(what, contestants, rounds, warm=warm, give_up=give_up)

    def compare(
        self, taken: Taken, names: dict[str, str], unit: str, least: dict[str, float] | None = None
    ) -> None:
        """Keeps how the working tree does beside the other commit. names: of figures, with the
        names of their results. least: the ratios that figures must reach where more is better."""
        if self.there is None or self.there.name not in taken:
            return
        here, there = taken[self.here.name], taken[self.there.name]
        for figure, name in names.items():
            if figure in here and figure in there:
                wanted = (least or {}).get(figure, 0.0)
                self.sheet.beside(name, here[figure], there[figure], unit, self.there.name, wanted)
