"""Much work in one process: what it takes, and memory that must stay flat.

python load.py calls|turns|interrupted|stdout FOLDER COUNT
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any

from conversations import FINAL, conversation, memory, run, shell

GRACE = TERM = 0.3
"""Seconds of the ladder."""

Figures = dict[str, float]


def calls(folder: Path, count: int) -> Figures:
    """So many calls in one turn."""
    steps = [{"calls": shell("true")["calls"] * count}, FINAL]
    begin = time.monotonic()
    with conversation(folder, steps) as made:
        assert made.run().exit_code == 0
    return {"seconds": time.monotonic() - begin, "peak": memory("VmHWM")}


def turns(folder: Path, count: int) -> Figures:
    """So many turns with one call each: the agent's processor seconds a turn, the first tenth and
    the last, and its memory after both."""
    tenth = count // 10
    used: list[tuple[float, float]] = []
    taken = 0

    def on_event(event: Any) -> None:
        nonlocal taken
        if type(event).__name__ == "TurnTaken":
            taken += 1
            if taken % tenth == 0:
                own = resource.getrusage(resource.RUSAGE_SELF)
                used.append((own.ru_utime + own.ru_stime, memory("VmRSS")))

    steps = [*[shell("true")] * count, FINAL]
    with conversation(folder, steps, on_event=on_event) as made:
        own = resource.getrusage(resource.RUSAGE_SELF)
        start = own.ru_utime + own.ru_stime
        assert made.run().exit_code == 0
    return {
        "first": (used[0][0] - start) / tenth,
        "last": (used[-1][0] - used[-2][0]) / tenth,
        "resident first": used[0][1],
        "resident last": used[-1][1],
    }


def interrupted(folder: Path, count: int) -> Figures:
    """So many conversations, each with a call that ignores INT and TERM; all are interrupted at
    once. Seconds until the last has returned, and the processes that are left then."""
    import observer

    mark = observer.new_mark()
    command = f"trap '' INT TERM; echo up; while :; do sleep 300.{mark}; done"
    up = threading.Semaphore(0)
    results: list[Any] = []

    def on_output(*_: Any) -> None:
        up.release()

    def go(made: Any) -> None:
        results.append(made.run())

    made = []
    for number in range(count):
        steps = [shell(command)]
        options = {"on_output": on_output, "interrupt": (GRACE, TERM)}
        made.append(conversation(folder / str(number), steps, **options))
    threads = [threading.Thread(target=go, args=(one,)) for one in made]
    for thread in threads:
        thread.start()
    for _ in made:
        assert up.acquire(timeout=120), "a call did not begin"
    begin = time.monotonic()
    for one in made:
        one.interrupt()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - begin
    left = len(observer.marked(mark))
    assert [result.exit_code for result in results] == [130] * count
    for one in made:
        one.close()
    return {"seconds": seconds, "left": left, "peak": memory("VmHWM")}


def stdout(folder: Path, count: int) -> Figures:
    """So many bytes through `sandbox-agent exec`."""
    from sandbox_agent.cli import main

    begin = time.monotonic()
    os.chdir(folder)
    out = str(folder / "runs")
    code = main(["exec", "--out", out, "--", "head", "-c", str(count), "/dev/zero"])
    assert code == 0, code
    figures = {"seconds": time.monotonic() - begin, "peak": memory("VmHWM")}
    (folder / "figures").write_text(json.dumps(figures))
    return figures


if __name__ == "__main__":
    if sys.argv[1] == "stdout":  # its standard output is the load; the figures are in a file
        stdout(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        run(globals())
