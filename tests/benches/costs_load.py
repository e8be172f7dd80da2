"""What much work costs: time, and memory that must stay flat. `scripts/bench load`.

Each kind runs in a process of its own: `python costs_load.py WHAT FOLDER COUNT` prints its figures
as a JSON object. It uses nothing but the names that `sandbox_agent` exports.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

CALLS = 1000
TURNS = 10_000
CONVERSATIONS = 100
STDOUT = 1 << 30
GRACE = TERM = 0.3

Figures = dict[str, float]
Add = Callable[..., float]


# --- in a process of its own ----------------------------------------------------------------------


def conversation(folder: Path, steps: Sequence[dict[str, Any]], **options: Any) -> Any:
    from sandbox_agent import Conversation, load_script

    folder.mkdir(exist_ok=True)
    script = folder / "steps.yaml"
    script.write_text(json.dumps(list(steps)))
    (folder / "work").mkdir()
    settings = {"turns": 1_000_000, "repeats": None}
    made = Conversation(
        model=load_script(str(script)),
        tools=["shell"],
        workspace=folder / "work",
        output_dir=folder / "runs",
        budgets=settings,
        interrupt=(GRACE, TERM),
        **options,
    )
    made.send_message("go")
    return made


def shell(command: str) -> dict[str, Any]:
    return {"shell": {"command": command}}


def resident(field: str) -> float:
    """Bytes: VmRSS, or VmHWM for the most that it ever was. proc_pid_status(5)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return float(line.split()[1]) * 1024
    raise AssertionError(field)


def calls(folder: Path, count: int) -> Figures:
    """So many calls in one turn."""
    steps = [{"calls": [shell("true")] * count}, {"final": "Done."}]
    begin = time.monotonic()
    with conversation(folder, steps) as made:
        assert made.run().exit_code == 0
    return {"seconds": time.monotonic() - begin, "peak": resident("VmHWM")}


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
                used.append((own.ru_utime + own.ru_stime, resident("VmRSS")))

    steps = [*[{"calls": [shell("true")]}] * count, {"final": "Done."}]
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

    def run(made: Any) -> None:
        results.append(made.run())

    made = []
    for number in range(count):
        steps = [{"calls": [shell(command)]}]
        made.append(conversation(folder / str(number), steps, on_output=on_output))
    threads = [threading.Thread(target=run, args=(one,)) for one in made]
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
    return {"seconds": seconds, "left": left, "peak": resident("VmHWM")}


def stdout(folder: Path, count: int) -> Figures:
    """So many bytes through `sandbox-agent exec`."""
    from sandbox_agent.cli import main

    begin = time.monotonic()
    os.chdir(folder)
    out = str(folder / "runs")
    code = main(["exec", "--out", out, "--", "head", "-c", str(count), "/dev/zero"])
    assert code == 0, code
    figures = {"seconds": time.monotonic() - begin, "peak": resident("VmHWM")}
    (folder / "figures").write_text(json.dumps(figures))
    return figures


# --- the suite ------------------------------------------------------------------------------------


def _run(what: str, count: int, read: bool = False) -> Figures:
    """read: its standard output is the load, and it leaves its figures in a file."""
    folder = Path(tempfile.mkdtemp(prefix="load-"))
    try:
        argv = [sys.executable, __file__, what, str(folder), str(count)]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, env=environ)
        assert process.stdout is not None
        size, last = 0, b""
        while data := process.stdout.read(1 << 16):
            size, last = size + len(data), data
        if process.wait():
            sys.exit(f"scripts/bench: {what} ended with {process.returncode}")
        if read:
            assert size == count, f"{size} bytes of {count} came"
            last = (folder / "figures").read_bytes()
        return json.loads(last)  # type: ignore[no-any-return]
    finally:
        shutil.rmtree(folder)


def _bare_stdout() -> float:
    """Seconds of the same bytes through a bare pipe."""
    begin = time.monotonic()
    command = ["head", "-c", str(STDOUT), "/dev/zero"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while process.stdout.read(1 << 16):
            pass
    return time.monotonic() - begin


def measure(add: Add) -> None:
    """Adds all figures. The bounds are those of 584eb71, with room for another machine."""
    found = _run("calls", CALLS)
    add(f"{CALLS} calls in a turn", [found["seconds"]], "s", 1, 60.0)
    add("  memory of the agent", [found["peak"]], "MB", 1e-6, 52e6)
    found = _run("turns", TURNS)
    first = add(f"CPU a turn, first tenth of {TURNS}", [found["first"]], "ms", 1e3)
    add("  last tenth", [found["last"]], "ms", 1e3, first * 1.1, first)
    before = add("  memory after the first tenth", [found["resident first"]], "MB", 1e-6)
    add("  memory in the end", [found["resident last"]], "MB", 1e-6, before + 25e6, before)
    found = _run("interrupted", CONVERSATIONS)
    bound = GRACE + TERM + 5
    add(f"{CONVERSATIONS} runs interrupted at once", [found["seconds"]], "s", 1, bound)
    add("  processes that are left", [found["left"]], "", 1, 0)
    add("  memory of the agent", [found["peak"]], "MB", 1e-6)
    bare = _bare_stdout()
    found = _run("stdout", STDOUT, read=True)
    add("1 GiB of standard output through exec", [found["seconds"]], "s", 1, None, bare)
    add("  memory of the agent", [found["peak"]], "MB", 1e-6, 50e6)


if __name__ == "__main__":
    _, what, where, number = sys.argv
    figures = globals()[what](Path(where), int(number))
    if what != "stdout":
        print(json.dumps(figures), flush=True)
