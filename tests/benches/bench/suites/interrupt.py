"""Interrupts: from the flag, a signal or `interrupt()` to the proof that all has ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import costs_interrupt
import costs_models
import identity
import struck

from bench.errors import CannotMeasure
from bench.products import Product
from bench.results import at_most
from bench.rounds import Figures
from bench.samples import Samples
from bench.setting import Setting

PARALLEL = 64
PUBLIC = {
    "cooperative": "interrupt to return of run(), a tool that heeds its token",
    "deaf": "interrupt to return of run() beyond the ladder, a deaf command",
    "hundred": "the same with 100 processes",
}


def measure(setting: Setting) -> None:
    _parallel(setting)
    _public(setting)
    _rungs(setting)
    _struck(setting)
    _models(setting)


def _parallel(setting: Setting) -> None:
    """64 cooperative calls at the same time."""
    count = setting.size(PARALLEL, 4)
    with contextlib.ExitStack() as stack:
        contestants: dict[str, Callable[[], Figures]] = {}
        for one in setting.products:
            folder = stack.enter_context(one.new_folder())
            asked = stack.enter_context(one.asked("calls.py", str(folder)))
            contestants[one.name] = lambda asked=asked: asked.ask("flagged", count)
        taken = setting.interleaved("parallel", contestants, setting.times(15))
    name = f"{count} parallel cooperative calls"
    bounds = {"seen": ("flag seen by all", 25), "dead": ("all proven dead", 120)}
    for figure, (what, bound) in bounds.items():
        found = taken[setting.here.name][figure]
        setting.sheet.take(f"{name}: {what}", found, "ms", p50=at_most(bound))
    names = {figure: f"{name}: {what}" for figure, (what, _) in bounds.items()}
    setting.compare(taken, names, "ms")


def _public(setting: Setting) -> None:
    """Interrupts of conversations, as anybody makes them."""
    counts = setting.size({"cooperative": 10, "deaf": 3, "hundred": 2}, dict.fromkeys(PUBLIC, 1))

    def one(product: Product) -> Callable[[], Figures]:
        def measured() -> Figures:
            found = {}
            for what, count in counts.items():
                with product.new_folder() as folder:
                    cost = product.program("interrupts.py", what, folder, count)
                    found[what] = json.loads(cost.out)
            return found

        return measured

    contestants = {product.name: one(product) for product in setting.products}
    taken = setting.interleaved("interrupts", contestants, setting.times(4))
    for what, name in PUBLIC.items():
        setting.sheet.take(name, taken[setting.here.name][what], "ms")
    setting.compare(taken, PUBLIC, "ms")


def _rungs(setting: Setting) -> None:
    """The flag and the last rung, beside what the bare kernel takes for them."""
    few, size = setting.times(5), setting.size((100, 16), (5, 2))
    with setting.here.new_folder() as folder:
        work = folder / "work"
        rows = [
            *costs_interrupt.flag_rows(work, setting.size(200, 5)),
            costs_interrupt.arun_row(work, setting.size(50, 2)),
            *costs_interrupt.kill_rows(work, few, *size),
        ]
    for row in rows:
        p50, p99 = (
            None if bound is None else at_most(round(bound * 1e3, 3))
            for bound in (row.median_bound, row.worst_bound)
        )
        figures = Samples.of([tuple(row.figures)])
        setting.sheet.take(row.what, figures, "ms", baseline=row.against, p50=p50, p99=p99)


def _struck(setting: Setting) -> None:
    """`sandbox-agent run` is struck while its tools have everything going that gets away elsewhere:
    a foreground sleep, `nohup &`, `setsid &`, a double fork, and one that ignores INT and TERM."""
    ladder = struck.GRACE + struck.TERM + 0.5
    names: dict[str, float] = {
        "INT to exit, the whole ladder": ladder,
        "INT to exit": ladder,
        "INT to nothing left": ladder,
        "SIGKILL to nothing left": 0.250,
    }
    persons = ["root", "user"] if os.geteuid() == 0 else ["user"]
    for kind in setting.size(persons, persons[-1:]):
        found: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(setting.times(3)):
            for name, seconds in _strikes(kind).items():
                found[name].append(seconds)
        for name, bound in names.items():
            what = f"a run with a hostile call ({kind}): {name}"
            target = at_most(round(bound * 1e3))
            setting.sheet.take(what, Samples.of([found[name]]), "ms", p50=target)


def _strikes(kind: str) -> Figures:
    someone = contextlib.contextmanager(identity.someone)
    found = {}
    with someone(kind) as person, struck.task_at_work(person, 1, struck.STUBBORN) as run:
        found["INT to exit, the whole ladder"] = _after(run.strike(signal.SIGINT), 130).seconds
    with someone(kind) as person, struck.task_at_work(person, 1) as run:
        after = _after(run.strike(signal.SIGINT), 130)
        found["INT to exit"], found["INT to nothing left"] = after.seconds, after.ours
    with someone(kind) as person, struck.task_at_work(person, 1) as run:
        found["SIGKILL to nothing left"] = _after(run.kill(), -signal.SIGKILL).ours
    return found  # type: ignore[return-value]


def _after(after: struck.After, code: int) -> struck.After:
    if after.code != code or after.left or after.lasting:
        raise CannotMeasure(
            f"a struck run: exit {after.code}, left: {after.left + after.lasting}: {after.stderr}"
        )
    return after


def _models(setting: Setting) -> None:
    """Interrupts of requests to a model, which a stand-in for a provider plays over real HTTP."""
    before = dict(os.environ)
    os.environ.update(costs_models.ENVIRON)
    try:
        with setting.here.new_folder() as folder:
            found = costs_models.interrupts(Path(folder, "work"), setting.times(10))
            for name, seconds, bound in found:
                target = at_most(round(bound * 1e3))
                setting.sheet.take(name, Samples.of([seconds]), "ms", p50=target)
    finally:
        os.environ.clear()
        os.environ.update(before)
