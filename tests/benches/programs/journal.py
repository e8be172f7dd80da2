"""What the record of a conversation costs.

python journal.py turns|durable|syncs|long FOLDER COUNT
"""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from conversations import FINAL, conversation, run, shell

LINE = b'{"event":"ended","id":"call_1_1","outcome":"ok"}' * 6 + b"\n"
"""As long as an event."""


def turns(folder: Path, count: int, **options: Any) -> list[float]:
    """Seconds of each turn with one call of a built-in tool, from one answer of the model to the
    next. All is in the journal."""
    at: list[float] = []

    def on_event(event: Any) -> None:
        if type(event).__name__ == "TurnTaken":
            at.append(time.monotonic())

    steps = [*[{"calls": [{"list_files": {}}]}] * (count + 1), FINAL]
    options = {"tools": ["files"], "on_event": on_event, **options}
    with conversation(folder, steps, **options) as made:
        assert made.run().exit_code == 0
    taken = [after - before for before, after in pairwise(at)]
    return taken[1:]  # the first call opens the sandbox


def durable(folder: Path, count: int) -> list[float]:
    """The same with fdatasync(2) in each turn."""
    return turns(folder, count, durable=True)


def syncs(folder: Path, count: int) -> list[float]:
    """Seconds of each bare fdatasync(2) of a file that grows by a line."""
    taken = []
    with open(folder / "lines", "ab", buffering=0) as file:
        for _ in range(count):
            file.write(LINE)
            begin = time.monotonic()
            os.fdatasync(file.fileno())
            taken.append(time.monotonic() - begin)
    return taken


def long(folder: Path, count: int) -> list[float]:
    """Not measured: makes a journal of so many turns, which `resume` reads."""
    steps = [*[shell("echo some output")] * count, FINAL]
    with conversation(folder, steps, budgets={"turns": count, "repeats": None}) as made:
        result = made.run()
        assert result.exit_code == 3, result
        (folder / "run").symlink_to(made.run_dir)
    return []


if __name__ == "__main__":
    run(globals())
