"""A peer's program, struck by a signal while four processes of its tool run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import observer

HERE = Path(__file__).parent
PATIENCE = 90.0


def four_sleeps(mark: str) -> str:
    """In the foreground, with nohup, with setsid, and one that ignores INT and TERM."""
    return (
        f"nohup sleep 300.{mark} >/dev/null 2>&1 & setsid sleep 300.{mark} & "
        f"(trap '' INT TERM; exec sleep 300.{mark}) & sleep 300.{mark}"
    )


def start(program: str, command: str, folder: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, str(HERE / program), command, str(folder)],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": path,
            "TMPDIR": str(folder),  # who is killed removes nothing
            "MSWEA_SILENT_STARTUP": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def sleeping(mark: str) -> list[observer.Process]:
    """The sleeps themselves, not the program that was given their command."""
    return [one for one in observer.marked(mark) if one.command.startswith("sleep ")]


def strike(program: str, folder: Path, number: signal.Signals) -> tuple[list[str], str]:
    """What is left, and what the program said."""
    mark = observer.new_mark()
    with start(program, four_sleeps(mark), folder) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while len(found := sleeping(mark)) < 4:
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < deadline, f"the tool did not start: {found}"
                time.sleep(0.02)
            with observer.watching(found) as handles:
                process.send_signal(number)
                _, left = observer.wait_gone(handles, PATIENCE)
        finally:
            process.kill()
        said = process.communicate()[0]
    return [one.command for one in left], said
