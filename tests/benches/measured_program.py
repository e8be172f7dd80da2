"""A program that uses sandbox-agent as anybody could, and prints what that took.

    python measured_program.py WHAT FOLDER COUNT

`against.py` runs it with one product or another on PYTHONPATH. So it imports nothing of a product
but its command line's `main` and the names that `sandbox_agent` exports. It prints the seconds (or
bytes) that it measured as a JSON list.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "support"))

GRACE = TERM = 0.1
"""Seconds of the ladder, where a tool takes it whole. They are subtracted."""

PAUSE = 0.002
"""Seconds between a tool's being up and the interrupt: the tool goes to sleep."""

TOOLS = """
from sandbox_agent import CancelToken

def waits(token: CancelToken) -> str:
    print("up", flush=True)
    token.wait()
    return "cancelled"
"""

DEAF = "trap '' INT TERM; echo up; while :; do sleep 301; done"

TREE = """
trap '' INT TERM HUP
i=0; while [ $i -lt 100 ]; do (setsid sleep 300.{mark} &); i=$((i+1)); done
echo up; while :; do sleep 301; done
"""


def conversation(folder: Path, steps: list[dict[str, Any]], **options: Any) -> Any:
    """One that plays these steps. steps: as a script of the model has them."""
    from sandbox_agent import Conversation, load_script

    (folder / "work").mkdir(exist_ok=True)
    script = folder / "steps.yaml"
    script.write_text(json.dumps(steps))
    options = {
        "tools": ["shell"],
        "workspace": folder / "work",
        "output_dir": folder / "runs",
        "budgets": {"turns": 100_000, "repeats": None},
        **options,
    }
    made = Conversation(model=load_script(str(script)), **options)
    made.send_message("go")
    return made


def shell(command: str) -> dict[str, Any]:
    return {"calls": [{"shell": {"command": command}}]}


FINAL = {"final": "Done."}

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


# --- what is measured -----------------------------------------------------------------------------


def calls(folder: Path, count: int) -> list[float]:
    """Opens a sandbox and makes a first call, then `count` more. Seconds of the first with all
    that it takes, and seconds a call of the others."""
    steps = [shell("true"), FINAL, *[shell("true")] * count, FINAL]
    begin = time.monotonic()
    with conversation(folder, steps) as made:
        assert made.run().exit_code == 0
        found = [time.monotonic() - begin]
        if count:
            made.send_message("go on")
            begin = time.monotonic()
            assert made.run().exit_code == 0
            found.append((time.monotonic() - begin) / count)
    return found


def each_call(folder: Path, count: int) -> list[float]:
    """Seconds of each of `count` calls in an open sandbox, by the record's own clock."""
    with conversation(folder, [*[shell("true")] * (count + 1), FINAL]) as made:
        assert made.run().exit_code == 0
        lines = (made.run_dir / "journal.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    at = {
        kind: [event["monotonic"] for event in events if event["event"] == kind]
        for kind in ("dispatching", "ended")
    }
    return [end - begin for begin, end in zip(*at.values(), strict=True)][1:]


def system_calls(folder: Path, count: int) -> list[float]:
    """Seconds that a simple system call takes in a tool, and open(2) with close(2)."""
    (folder / "work").mkdir()
    (folder / "work" / "loops.py").write_text(LOOPS)
    with conversation(folder, [shell(f"{sys.executable} -I loops.py"), FINAL]) as made:
        assert made.run().exit_code == 0
    found: list[float] = json.loads((folder / "work" / "found").read_text())
    return found


def interrupted(
    folder: Path,
    count: int,
    step: dict[str, Any],
    ready: Callable[[], object],
    beyond: float,
    **options: Any,
) -> list[float]:
    """Seconds from an interrupt to the return of run(), `count` times. ready: waits until all is
    up, after the call's first output. beyond: seconds that are subtracted."""
    up, at = threading.Event(), [0.0]

    def strike(made: Any) -> None:
        up.wait()
        ready()
        time.sleep(PAUSE)
        at[0] = time.monotonic()
        made.interrupt()

    taken = []
    options["on_output"] = lambda *_: up.set()
    with conversation(folder, [step] * count, **options) as made:
        for number in range(count):
            if number:
                made.send_message("go on")
            up.clear()
            thread = threading.Thread(target=strike, args=(made,))
            thread.start()
            try:
                result = made.run()
                over = time.monotonic()
            finally:
                up.set()  # or the thread would wait for ever for a call that never began
                thread.join()
            taken.append(over - at[0] - beyond)
            assert result.exit_code == 130, result
            assert result.survivors == (), result
    return taken


def cooperative(folder: Path, count: int) -> list[float]:
    """A tool in Python that waits for its token."""
    (folder / "work").mkdir()
    (folder / "work" / "measured_tools.py").write_text(TOOLS)
    options = {"tools": ["measured_tools:waits"], "interrupt": (20, 20)}
    step = {"calls": [{"waits": {}}]}
    return interrupted(folder, count, step, lambda: None, 0.0, **options)


def deaf(folder: Path, count: int) -> list[float]:
    """A command that ignores SIGINT and SIGTERM, beyond the grace and term periods."""
    options = {"interrupt": (GRACE, TERM)}
    return interrupted(folder, count, shell(DEAF), lambda: None, GRACE + TERM, **options)


def hundred(folder: Path, count: int) -> list[float]:
    """The same with a hundred double-forked processes, each in a session of its own."""
    import observer

    mark = observer.new_mark()

    def all_up() -> None:
        def look() -> bool:
            return sum(p.command.startswith("sleep") for p in observer.marked(mark)) == 100

        observer.eventually(look, 60)

    options = {"interrupt": (GRACE, TERM)}
    step = shell(TREE.format(mark=mark))
    return interrupted(folder, count, step, all_up, GRACE + TERM, **options)


def journal(folder: Path, count: int) -> list[float]:
    """Not measured: makes the journal of `count` turns that `resume` is measured with."""
    steps = [*[shell("echo some output")] * count, FINAL]
    with conversation(folder, steps, budgets={"turns": count, "repeats": None}) as made:
        result = made.run()
        assert result.exit_code == 3, result
        (folder / "run").symlink_to(made.run_dir)
    return []


def memory(folder: Path, count: int) -> list[float]:
    """Bytes resident at most in the agent process of `sandbox-agent run`."""
    from sandbox_agent.cli import main

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    assert main(["run", str(folder / "task.yaml")]) == 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return [float(line.split()[1]) * 1024]
    raise AssertionError("no VmHWM in /proc/self/status")


if __name__ == "__main__":
    _, what, where, number = sys.argv
    measured = globals()[what](Path(where), int(number))
    print(json.dumps(measured), flush=True)
