"""Memory: the agent, each process beside it, and what many interrupted runs leave behind."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import costs
import held
import identity

from bench.errors import CannotMeasure
from bench.products import Product
from bench.results import at_most
from bench.rounds import Figures
from bench.setting import Setting

PEAK = "the agent of a run of one call, at most"
PROCESSES = (
    "agent, idle",
    "agent, with a call in flight",
    "spawner",
    "sandbox init",
    "init of a call",
    "worker of a call",
)


def measure(setting: Setting) -> None:
    _peak(setting)
    _processes(setting)
    _growth(setting)


def _peak(setting: Setting) -> None:
    """Of `sandbox-agent run` in its own process."""

    def one(product: Product) -> Callable[[], Figures]:
        def measured() -> Figures:
            with product.new_folder() as folder:
                report, task = folder / "look.json", str(costs.one_call_task(folder))
                code = costs.LOOK_AT_ITSELF
                product.run([product.python, "-c", code, str(report), "run", task])
                found = json.loads(report.read_text())
            if "litellm" in found["modules"]:
                raise CannotMeasure("a run that needs no model imported litellm")
            return {"peak": [found["peak_kib"] * 1024]}

        return measured

    contestants = {product.name: one(product) for product in setting.products}
    taken = setting.interleaved("memory", contestants, setting.times(3))
    with contextlib.contextmanager(identity.someone)("root") as me:
        bare = float(costs.bare_peak(me))
    setting.sheet.add("python -c pass, at most", bare / 1e6, "MB")
    peak = taken[setting.here.name]["peak"]
    setting.sheet.add(PEAK, peak.p50 / 1e6, "MB", baseline=bare / 1e6, target=at_most(36))
    setting.compare(taken, {"peak": PEAK}, "MB")


def _processes(setting: Setting) -> None:
    def one(product: Product) -> Callable[[], Figures]:
        def measured() -> Figures:
            with product.new_folder() as folder:
                found = json.loads(product.program("memory.py", folder).out)
            return {name: [value] for name, value in found.items()}

        return measured

    contestants = {product.name: one(product) for product in setting.products}
    taken = setting.interleaved("processes", contestants, setting.times(3))
    mine, sheet = taken[setting.here.name], setting.sheet
    names = {name: f"PSS: {name}" for name in PROCESSES}
    for name, what in list(names.items()):
        if size := mine[name].p50:
            sheet.add(what, size / 1e6, "MB")
        else:
            sheet.note(f"{what}: this user may not look; root may")
            del names[name]
    spares, size = mine["spares"].p50, mine["spare bytes"].p50
    what = "PSS: an unused spare worker with its init"
    if not spares:
        sheet.note(f"{what}: an idle sandbox has none")
    elif not size:
        sheet.note(f"{what}: this user may not look; root may")
    else:
        sheet.add(what, size / spares / 1e6, "MB", target=at_most(5))
    setting.compare(taken, names, "MB")


def _growth(setting: Setting) -> None:
    """Of one process, in so many runs that were interrupted."""
    runs, warm = setting.size((300, held.WARM_UP), (3, 2))
    with setting.here.new_folder() as folder:
        before, after = held.growth(folder / "work", runs, warm)
    for name in held.Holdings.__dataclass_fields__:
        more = getattr(after, name) - getattr(before, name)
        if name == "resident_kib":
            what, unit, bound = "resident memory", "MB", at_most(2)
            more = more * 1024 / 1e6
        else:
            what, unit, bound = name, "", at_most(0)
        # The host's cgroups are everybody's.
        target = None if name == "cgroups" else bound
        setting.sheet.add(f"growth of {what} in {runs} interrupted runs", more, unit, target=target)
