"""Turns of a long conversation: with a scripted model, and with a provider over real HTTP.

A turn may not cost more because the conversation is long.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import paths
from costs_models import ENVIRON

from bench.asked import PROGRAMS
from bench.products import Product
from bench.results import ratio_at_most
from bench.rounds import Figures
from bench.samples import median
from bench.setting import Setting

HUNDRED = 100
"""The first and the last ones that are compared."""
SCRIPTED = "a turn of a scripted model, with one call of a built-in tool"


def measure(setting: Setting) -> None:
    _scripted(setting)
    _provider(setting)


def _scripted(setting: Setting) -> None:
    count = setting.size(100, 6)

    def one(product: Product) -> Callable[[], Figures]:
        def measured() -> Figures:
            with product.new_folder() as folder:
                cost = product.program("journal.py", "turns", folder, count)
            return {"wall": json.loads(cost.out), "cpu": [cost.cpu / count]}

        return measured

    contestants = {product.name: one(product) for product in setting.products}
    taken = setting.interleaved("turns", contestants, setting.times(8))
    names = {"wall": SCRIPTED, "cpu": "processor time of all processes for it"}
    for figure, name in names.items():
        setting.sheet.take(name, taken[setting.here.name][figure], "ms")
    setting.compare(taken, names, "ms")


def _provider(setting: Setting) -> None:
    count = setting.size(300, 16)
    with setting.here.new_folder() as folder:
        (folder / "work").rmdir()  # the program makes it
        found = long_conversation(folder, count)
    sheet = setting.sheet
    for name, size in found.pop("memory").items():
        sheet.add(f"memory of the {name} after {count} turns", size / 1e6, "MB")
    for what, figures in found.items():
        figures = figures[5:]  # connections, caches, imports
        number = min(HUNDRED, max(1, len(figures) // 3))
        first, last = median(figures[:number]) * 1e3, median(figures[-number:]) * 1e3
        name = f"a turn of {count} with a provider, {what}"
        sheet.add(f"{name}: the first {number}", first, "ms")
        target = ratio_at_most(1.2) if what.startswith("host") else None
        sheet.add(f"{name}: the last {number}", last, "ms", baseline=first, target=target)


def long_conversation(folder: Path, count: int) -> dict[str, Any]:
    """Seconds of each turn but the last, by where they went, and the memory of the two processes.

    all: from the provider's having written an answer to its having the next request. host: from the
    host's having the answer to its asking again, a tool call in between; its processor time is also
    that of handing on the stream. model process: the rest, with litellm and HTTP. litellm: what a
    bare one takes for the same requests; ours is less where the model process spares it something.
    """
    script = {
        "answers": [{"calls": [{"name": "shell", "arguments": {"command": "true"}}], "pieces": 2}],
        "then": "repeat",
    }
    (folder / "script.json").write_text(json.dumps(script))
    seen, program = {}, str(PROGRAMS / "models.py")
    for what in ("turns", "bare"):
        with _stub(folder / "script.json") as base:
            argv = [sys.executable, program, what, base + "/v1", str(count), str(folder)]
            subprocess.run(argv, env={**os.environ, **ENVIRON}, check=True, stdout=sys.stderr)
            with urllib.request.urlopen(f"{base}/_stub/requests") as answer:
                seen[what] = json.loads(answer.read())
        assert seen[what]["violations"] == [], seen[what]["violations"][:3]
    ours = json.loads((folder / "turns.json").read_text())
    requests = seen["turns"]["requests"]
    assert len(requests) == count
    asked, answered = ours["asked"], ours["answered"]
    whole = _between(requests)
    host = [after - before for before, after in zip(answered, asked[1:], strict=False)]
    return {
        "all": whole,
        "host": host,
        "host, processor time": [b - a for a, b in pairwise(ours["busy"])],
        "model process": [a - b for a, b in zip(whole, host, strict=True)],
        "litellm": _between(seen["bare"]["requests"]),
        "memory": ours["memory"],
    }


def _between(requests: Sequence[Mapping[str, float]]) -> list[float]:
    return [b["at"] - a["answered"] for a, b in pairwise(requests)]


@contextlib.contextmanager
def _stub(script: Path) -> Iterator[str]:
    argv = [sys.executable, "-m", "provider", "--forget", "--script", str(script)]
    with subprocess.Popen(argv, cwd=paths.TESTS, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
