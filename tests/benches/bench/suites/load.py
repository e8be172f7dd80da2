"""Much work at once, and memory that must stay flat."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from bench.asked import PROGRAMS
from bench.errors import CannotMeasure
from bench.products import Product
from bench.results import at_most, ratio_at_most
from bench.rounds import Figures
from bench.setting import Setting

GRACE_AND_TERM = 0.6
"""Seconds, as in `programs/load.py`."""


def measure(setting: Setting) -> None:
    calls = setting.size(1000, 20)
    turns = setting.size(2000, 20)
    conversations = setting.size(100, 3)
    size = setting.size(1 << 30, 1 << 24)

    def one(product: Product) -> Callable[[], Figures]:
        def measured() -> Figures:
            found = {}
            for what, count in (
                ("calls", calls),
                ("turns", turns),
                ("interrupted", conversations),
                ("stdout", size),
            ):
                for figure, value in _program(product, what, count).items():
                    found[f"{what} {figure}"] = [value]
            found["bare"] = [_bare(size)]
            return found

        return measured

    contestants = {product.name: one(product) for product in setting.products}
    # Minutes each: no round is lost to warm up.
    taken = setting.interleaved("load", contestants, setting.rounds or 1, warm=False)
    found = {name: samples.p50 for name, samples in taken[setting.here.name].items()}
    add = setting.sheet.add
    name = f"{calls} calls in a turn"
    add(name, found["calls seconds"], "s", target=at_most(60))
    add(f"{name}: memory of the agent", found["calls peak"] / 1e6, "MB", target=at_most(52))
    name, first = f"processor time a turn, of {turns}", found["turns first"] * 1e3
    add(f"{name}: the first tenth", first, "ms")
    last = found["turns last"] * 1e3
    add(f"{name}: the last tenth", last, "ms", baseline=first, target=ratio_at_most(1.1))
    name, first = f"memory in {turns} turns", found["turns resident first"] / 1e6
    add(f"{name}: after the first tenth", first, "MB")
    last = found["turns resident last"] / 1e6
    add(f"{name}: in the end", last, "MB", baseline=first, target=at_most(round(first + 25)))
    name = f"{conversations} conversations interrupted at once"
    bound = at_most(GRACE_AND_TERM + 5)
    add(f"{name}, with a ladder of 0.6 s", found["interrupted seconds"], "s", target=bound)
    add(f"{name}: processes left", found["interrupted left"], "", target=at_most(0))
    add(f"{name}: memory of the agent", found["interrupted peak"] / 1e6, "MB")
    name = f"{size >> 20} MiB of standard output through exec"
    add(name, found["stdout seconds"], "s", baseline=found["bare"])
    add(f"{name}: memory of the agent", found["stdout peak"] / 1e6, "MB", target=at_most(50))
    names = {"calls seconds": f"{calls} calls in a turn", "turns last": "processor time a turn"}
    setting.compare(taken, names, "s")


def _program(product: Product, what: str, count: int) -> dict[str, float]:
    """The figures of `programs/load.py`. Its standard output is read as it comes: it may be
    large."""
    with product.new_folder() as folder, tempfile.TemporaryFile() as errors:
        argv = [product.python, str(PROGRAMS / "load.py"), what, str(folder), str(count)]
        with subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=errors, env=product.environ()
        ) as process:
            assert process.stdout is not None
            length, last = 0, b""
            try:
                while data := process.stdout.read(1 << 16):
                    length, last = length + len(data), data
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            errors.seek(0)
            said = errors.read().decode(errors="replace")[-2000:]
            raise CannotMeasure(f"{product.name}: {what}: exit {process.returncode}:\n{said}")
        if what == "stdout":
            if length != count:
                raise CannotMeasure(f"{product.name}: {length} bytes of {count} came")
            last = Path(folder, "figures").read_bytes()
    found: dict[str, Any] = json.loads(last)
    return found


def _bare(size: int) -> float:
    """Seconds of so many bytes through a bare pipe."""
    begin = monotonic()
    command = ["head", "-c", str(size), "/dev/zero"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while process.stdout.read(1 << 16):
            pass
    return monotonic() - begin
