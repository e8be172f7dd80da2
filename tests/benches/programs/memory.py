"""Memory of the processes of an agent: each one's share, by smaps_rollup (proc_pid_smaps(5)).

    python memory.py FOLDER

The sandbox is idle first. What is below its init then waits for calls: spare workers, each with the
init of its pid namespace. Then a call is in flight.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "support"))

import observer
from conversations import FINAL, conversation, shell


def share(pid: int) -> float:
    """Bytes: private memory, and of shared memory its part (PSS). 0 where nobody may look."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return sum(float(line.split()[1]) * 1024 for line in text.splitlines() if line[:4] == "Pss:")


def tree() -> list[list[observer.Process]]:
    """Our descendants, by how far below us they are."""
    everyone = {one.pid: one for one in observer.descendants(os.getpid())}
    levels: list[list[observer.Process]] = []
    above = {os.getpid()}
    while above:
        level = [one for one in everyone.values() if one.parent in above]
        levels.append(level)
        above = {one.pid for one in level}
    return levels


def settled(depths: Sequence[int]) -> list[list[observer.Process]]:
    """The tree once it has at least so many processes on each level, and has not changed for a
    while: spare workers are made after a call's end."""
    seen: list[list[int]] = []

    def look() -> bool:
        now = [sorted(one.pid for one in level) for level in tree()]
        seen.append(now)
        enough = len(now) >= len(depths) and all(
            len(level) >= least for level, least in zip(now, depths, strict=False)
        )
        return enough and len(seen) > 50 and seen[-50:] == [now] * 50

    observer.eventually(look, 60)
    return tree()


def measured(folder: Path) -> dict[str, float]:
    up = threading.Event()
    steps = [shell("true"), FINAL, shell("echo up; exec sleep 300"), FINAL]
    made = conversation(folder, steps, interrupt=(0.1, 0.1), on_output=lambda *_: up.set())
    found: dict[str, float] = {}
    with made:
        made.run()
        [spawner], [init], *spares = settled([1, 1])[:4]
        found["agent, idle"] = share(os.getpid())
        found["spawner"] = share(spawner.pid)
        found["sandbox init"] = share(init.pid)
        waiting = [one for level in spares for one in level]
        found["spares"] = len(spares[0]) if spares else 0
        found["spare bytes"] = sum(share(one.pid) for one in waiting)
        made.send_message("go on")
        up.clear()
        thread = threading.Thread(target=made.run)
        thread.start()
        try:
            assert up.wait(60), "the call did not begin"
            # The command is the sleep; above it are its worker and the call's init.
            levels = settled([1, 1, 1, 1, 1])
            [command] = levels[4]
            by_pid = {one.pid: one for level in levels for one in level}
            worker = by_pid[command.parent]
            found["worker of a call"] = share(worker.pid)
            found["init of a call"] = share(worker.parent)
            found["agent, with a call in flight"] = share(os.getpid())
        finally:
            made.interrupt()
            thread.join()
    return found


if __name__ == "__main__":
    print(json.dumps(measured(Path(sys.argv[1]))), flush=True)
