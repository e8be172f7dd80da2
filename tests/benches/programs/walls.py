"""What calls and system calls take in a sandbox.

python walls.py system_calls FOLDER COUNT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from conversations import FINAL, conversation, run, shell

LOOPS = """
import json, os, sys, time

def fastest(act, count):
    best = float("inf")
    for _ in range(3000):
        begin = time.perf_counter()
        for _ in range(count):
            act()
        best = min(best, time.perf_counter() - begin)
    return best / count

def open_and_close():
    os.close(os.open(os.__file__, os.O_RDONLY))

with open("found", "w") as file:
    json.dump([fastest(os.getppid, 1000), fastest(open_and_close, 50)], file)
"""
"""The fastest of many short loops: what else the machine does only makes one slower."""


def system_calls(folder: Path, count: int) -> list[float]:
    """Seconds that a simple system call takes in a tool, and open(2) with close(2)."""
    (folder / "work" / "loops.py").write_text(LOOPS)
    with conversation(folder, [shell(f"{sys.executable} -I loops.py"), FINAL]) as made:
        assert made.run().exit_code == 0
    found: list[float] = json.loads((folder / "work" / "found").read_text())
    return found


if __name__ == "__main__":
    run(globals())
