"""Interrupts of conversations: the seconds until `run()` returns.

python interrupts.py cooperative|deaf|hundred FOLDER COUNT
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conversations import conversation, run, shell

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


if __name__ == "__main__":
    run(globals())
