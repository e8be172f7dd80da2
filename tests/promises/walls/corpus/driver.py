"""Runs the attempts of a class, inside the walls or without any. Standard library only.

    python -I -S driver.py CLASS STAGE.json [NAME...]

Each attack and each neighbour is a child of its own. When all have been made, `ready` in the
workspace gets a line; attacks that must be looked at stay until `release` has one.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

PATIENCE = 20
"""Seconds for one child."""

HELD: list[int] = []


def name_process(text: str) -> None:
    try:
        Path("/proc/self/comm").write_text(text)
    except OSError:  # below /proc nothing can be written; then PR_SET_NAME(2const)
        ctypes.CDLL(None).prctl(15, text.encode()[:15], 0, 0, 0)


def child(work: Any, comm: str, held: int | None, stage: Any) -> dict[str, str]:
    """What became of it: nothing, or its error. held: a pipe whose end lets the child go."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        signal.alarm(PATIENCE if held is None else 90)
        name_process(comm)
        own, answer = os.getpid(), {}
        try:
            work(stage)
        except BaseException as error:
            answer = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        finally:
            if os.getpid() != own:  # a child of the attack, which failed
                os._exit(0)
            try:
                os.write(write, (json.dumps(answer) + "\n").encode())
                os.close(write)
                if held is not None:
                    os.read(held, 1)
                for ending in stage.endings:
                    ending()
            finally:
                os._exit(0)
    os.close(write)
    # Up to the line and no further: what the attack left behind may hold the pipe open.
    answer = b""
    while not answer.endswith(b"\n") and (more := os.read(read, 65536)):
        answer += more
    os.close(read)
    if held is None:
        os.waitpid(pid, 0)
    else:
        HELD.append(pid)
    return dict(json.loads(answer)) if answer else {"error": "it died"}


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    package = Path(__file__).resolve().parent.name
    attempt = importlib.import_module(f"{package}.attempt")
    attempts = importlib.import_module(f"{package}.{sys.argv[1]}").ATTEMPTS
    facts = json.loads(Path(sys.argv[2]).read_text())
    wanted = sys.argv[3:]
    name_process(f"{facts['token']}:drv")
    held, let_go = os.pipe()
    os.set_inheritable(let_go, False)
    answers: dict[str, dict[str, Any]] = {}
    chosen = [(number, one) for number, one in enumerate(attempts) if one.name in wanted]
    for _, one in chosen:  # before any attack uses up what they need
        stage = attempt.Stage(facts, one.name)
        answers[one.name] = {"neighbour": child(one.neighbour, "neighbour", None, stage)}
    work = Path(facts["work"])
    # Already now: an attack that goes over a limit may be the end of this process, too.
    (work / "answers.json").write_text(json.dumps(answers))
    for number, one in chosen:

        def attack(stage: Any, one: Any = one) -> None:
            os.close(let_go)
            one.attack(stage)

        stage = attempt.Stage(facts, one.name)
        comm = f"{facts['token']}:{number:03}"
        answers[one.name]["attack"] = child(attack, comm, held if one.held else None, stage)
    (work / "answers.json").write_text(json.dumps(answers))
    with open(work / "ready", "w") as file:
        file.write("ready\n")
    with open(work / "release") as file:
        file.readline()
    os.close(let_go)
    for pid in HELD:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
