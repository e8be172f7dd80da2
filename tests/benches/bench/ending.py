"""The end of the bench, also in the middle: no process and no temporary folder is left."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import observer

_folders: list[Path] = []


@contextlib.contextmanager
def temporary_folder(where: str | None = None) -> Iterator[Path]:
    """A folder that is removed, whatever ends the bench."""
    folder = Path(tempfile.mkdtemp(prefix="sa-bench-", dir=where))
    _folders.append(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _folders.remove(folder)


def end_all(limit: float = 10.0) -> None:
    """Kills what is left of all that was started. Orphans have come to us, so nothing is
    overlooked. limit: seconds."""
    deadline = time.monotonic() + limit
    while (left := observer.descendants(os.getpid())) and time.monotonic() < deadline:
        for one in left:
            with contextlib.suppress(OSError):
                os.kill(one.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def on_signals(before: Callable[[], object]) -> None:
    """SIGINT and SIGTERM end the bench at once with 128 and their number. before: what is done
    first. No exception is raised, because a suite may wait minutes for a thread before it goes
    on."""

    def leave(number: int, _: object) -> None:
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, signal.SIG_IGN)
        before()
        end_all()
        for folder in _folders:
            shutil.rmtree(folder, ignore_errors=True)
        print(f"scripts/bench: ended by {signal.Signals(number).name}", file=sys.stderr)
        sys.stdout.flush()
        os._exit(128 + number)

    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, leave)
