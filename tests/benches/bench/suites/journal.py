"""The record: a call in a conversation, without and with fdatasync(2), and resuming a long one."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from bench.asked import PROGRAMS
from bench.products import Product, run
from bench.results import Target, ratio_at_most
from bench.rounds import Figures
from bench.setting import Setting

PEER = "OpenHands SDK"
ENVIRON = {
    "OPENHANDS_SUPPRESS_BANNER": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or it asks the network for one
    "LOG_LEVEL": "ERROR",
}
TURN = "a journalled call, without fdatasync"
DURABLE = "a journalled call, with fdatasync"


def measure(setting: Setting) -> None:
    count = setting.size(200, 12)
    contestants = {one.name: _turns(one, count) for one in setting.products}
    if peer := setting.peers.get(PEER):
        contestants[PEER] = _openhands(setting.here, peer.path, count)
    taken = setting.interleaved("journal", contestants, setting.times(3))
    sheet, mine = setting.sheet, taken[setting.here.name]
    theirs = taken[PEER]["turns"].p50 if PEER in taken else None
    if theirs is not None:
        sheet.take(f"{PEER}: a persisted call", taken[PEER]["turns"], "ms")
    target = None if theirs is None else ratio_at_most(0.2)
    sheet.take(TURN, mine["turns"], "ms", baseline=theirs, p50=target)
    sheet.take(DURABLE, mine["durable"], "ms")
    sheet.take("a bare fdatasync of one line", mine["syncs"], "ms")
    more = mine["durable"].more_than(mine["turns"]).middle
    bound = mine["syncs"].p50 + 0.3e-3
    sheet.add(
        "what fdatasync adds to a journalled call",
        more * 1e3,
        "ms",
        baseline=mine["syncs"].p50 * 1e3,
        target=Target(round(bound * 1e3, 3)),
    )
    setting.compare(taken, {"turns": TURN, "durable": DURABLE}, "ms")
    _resume(setting)


def _turns(product: Product, count: int) -> Callable[[], Figures]:
    def measured() -> Figures:
        found = {}
        for what in ("turns", "durable", "syncs"):
            with product.new_folder() as folder:
                found[what] = json.loads(product.program("journal.py", what, folder, count).out)
        return found

    return measured


def _openhands(here: Product, python: str, count: int) -> Callable[[], Figures]:
    """The same conversation in OpenHands' SDK, with its persistence; the tool does as much."""

    def measured() -> Figures:
        with here.new_folder() as folder:
            argv = [python, str(PROGRAMS / "openhands_turns.py"), str(folder), str(count)]
            environ = {**here.environ(), **ENVIRON}
            out = run(PEER, argv, env=environ, cwd=folder / "work").out
            return {"turns": json.loads(out.splitlines()[-1])}

    return measured


def _resume(setting: Setting) -> None:
    """A journal of many turns is read and continued. Each time a copy, as it was."""
    count = setting.size(200, 10)
    name = f"resume after {count} turns"

    def one(product: Product, made: Path) -> Callable[[], Figures]:
        product.program("journal.py", "long", made, count)

        def measured() -> Figures:
            with product.new_folder() as new:
                copy = new / (made / "run").readlink().name
                shutil.copytree(made / "run", copy)
                model = f"scripted:{made / 'steps.yaml'}"
                cost = product.run([product.agent, "resume", str(copy), "--model", model])
                return {"wall": [cost.wall], "cpu": [cost.cpu]}

        return measured

    with contextlib.ExitStack() as stack:
        contestants = {
            product.name: one(product, stack.enter_context(product.new_folder()))
            for product in setting.products
        }
        taken = setting.interleaved("resume", contestants, setting.times(10))
    names = {"wall": name, "cpu": f"{name}: processor time"}
    for figure, what in names.items():
        setting.sheet.take(what, taken[setting.here.name][figure], "ms")
    setting.compare(taken, names, "ms")
