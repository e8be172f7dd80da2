"""What a user waits for: `--help`, a run of one call, the first request to a provider."""

from __future__ import annotations

from collections.abc import Callable

import costs
import costs_models

from bench.products import Product
from bench.results import at_most, ratio_at_most
from bench.rounds import Figures
from bench.samples import Samples
from bench.setting import Setting

NAMES = {"help": "--help", "run": "a run of one call"}
BARE = "python -c pass"


def measure(setting: Setting) -> None:
    sheet, here = setting.sheet, setting.here
    count = setting.size(3, 1)
    contestants = {one.name: _ours(one, count) for one in setting.products}
    contestants[BARE] = _bare(here, count)
    taken = setting.interleaved("start", contestants, setting.times(15))
    bare, mine = taken[BARE], taken[here.name]
    sheet.take(BARE, bare["wall"], "ms")
    for figure, name in NAMES.items():
        bound = {"help": at_most(30), "run": at_most(200)}[figure]
        sheet.take(name, mine[figure], "ms", baseline=bare["wall"].p50, p50=bound)
    for figure, name in NAMES.items():
        used = mine[f"{figure} cpu"]
        sheet.take(f"{name}: processor time", used, "ms", baseline=bare["cpu"].p50)
    names = {**NAMES, **{f"{one} cpu": f"{name}: processor time" for one, name in NAMES.items()}}
    setting.compare(taken, names, "ms")
    _first_request(setting)


def _ours(product: Product, count: int) -> Callable[[], Figures]:
    def measured() -> Figures:
        with product.new_folder() as folder:
            task = str(costs.one_call_task(folder))
            helps = [product.run([product.agent, "--help"]) for _ in range(count)]
            runs = [product.run([product.agent, "run", task]) for _ in range(count)]
        return {
            "help": [one.wall for one in helps],
            "help cpu": [one.cpu for one in helps],
            "run": [one.wall for one in runs],
            "run cpu": [one.cpu for one in runs],
        }

    return measured


def _bare(here: Product, count: int) -> Callable[[], Figures]:
    def measured() -> Figures:
        found = [here.run([here.python, "-c", "pass"]) for _ in range(count)]
        return {"wall": [one.wall for one in found], "cpu": [one.cpu for one in found]}

    return measured


def _first_request(setting: Setting) -> None:
    bare, ours = costs_models.first_request(setting.times(4), warm=not setting.quick)
    sheet = setting.sheet
    sheet.take("python -c 'import litellm'", Samples.of([bare]), "ms")
    plain = Samples.of([bare]).p50
    name = "start to the first request at the provider"
    sheet.take(name, Samples.of([ours]), "ms", baseline=plain, p50=ratio_at_most(1.1))
