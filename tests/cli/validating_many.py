"""Validates many tasks in one process, as the command does, and prints a line of JSON for each.

Usage: validating_many.py FIRST COUNT, in an empty folder.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "support"))

import fuzzed_tasks
from sandbox_agent.cli import main


def validate(argv: list[str], output: Path) -> int:
    """The exit code. Standard output and error go to the file."""
    saved = os.dup(1), os.dup(2)
    fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    try:
        return main(["validate", *argv])
    finally:
        for number, copy in enumerate(saved, 1):
            os.dup2(copy, number)
            os.close(copy)


def work(first: int, count: int) -> None:
    folder = Path.cwd() / "case"
    (folder / "work").mkdir(parents=True)
    os.chdir(folder)
    for number in range(first, first + count):
        case = fuzzed_tasks.make(number)
        for name, raw in case.files.items():
            (folder / name).write_bytes(raw)
        began = time.monotonic()
        code = validate(case.argv, folder.parent / "output")
        text = (folder.parent / "output").read_text("utf-8", "replace")
        line = {"case": number, "code": code, "seconds": time.monotonic() - began, "text": text}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    work(int(sys.argv[1]), int(sys.argv[2]))
