"""A sandbox: from nothing to the first result of a call in it."""

from __future__ import annotations

import json
from collections.abc import Callable

from bench.products import Product
from bench.results import at_most
from bench.rounds import Figures
from bench.setting import Setting

NAMES = {
    "started": "sandbox open to first result, its first process started before",
    "started and planned": "the same and to make the plan",
    "both": "sandbox from nothing to first result",
    "open": "  to plan and open it",
    "first call": "  the first call, to its result",
    "close": "to close a sandbox",
}


def measure(setting: Setting) -> None:
    count = setting.size(5, 1)

    def one(product: Product) -> Callable[[], Figures]:
        def measured() -> Figures:
            with product.new_folder() as folder:
                found: Figures = json.loads(product.program("opening.py", folder, count).out)
                return found

        return measured

    contestants = {product.name: one(product) for product in setting.products}
    taken = setting.interleaved("open", contestants, setting.times(12))
    for figure, name in NAMES.items():
        target = at_most(30) if figure == "started" else None
        setting.sheet.take(name, taken[setting.here.name][figure], "ms", p50=target)
    both = {figure: name.strip() for figure, name in NAMES.items() if "started" not in figure}
    setting.compare(taken, both, "ms")
