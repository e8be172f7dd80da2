"""After SIGKILL of the agent the journal tells the truth about what was in flight."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import observer
import paths
import pytest
from sandbox_agent.journal.file import read_journal
from sandbox_agent.journal.history import ToolMessage
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.journal.state import state_of
from sandbox_agent.journal.status import Status

AGENT = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {path!r}
from talking import *
watch = Watch()
def strike(event):
    if type(event).__name__ == {kind!r}:
        os.kill(os.getpid(), signal.SIGKILL)
watch.also = strike
conv = talk(Path({folder!r}), watch, shell({first!r}, "echo two"), FINAL, parallel=1)
conv.send_message("go")
conv.run()
"""


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("TurnTaken", ("skipped", "no"), ("skipped", "no")),
        ("Dispatching", ("unknown", "maybe"), ("skipped", "no")),
        ("Started", ("unknown", "yes"), ("skipped", "no")),
        ("Ended", ("ok", "yes"), ("skipped", "no")),
    ],
)
def test_the_journal_of_a_killed_agent_tells_what_was_in_flight(
    tmp_path: Path, kind: str, first: tuple[str, str], second: tuple[str, str]
) -> None:
    mark = observer.new_mark()
    command = "echo one" if kind == "Ended" else f"exec sleep 300.{mark}"
    code = AGENT.format(path=paths.IMPORT_PATHS, kind=kind, folder=str(tmp_path), first=command)
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == -9
    end = time.monotonic() + 5
    while observer.marked(mark) and time.monotonic() < end:
        os.sched_yield()
    assert observer.marked(mark) == []

    (folder,) = (tmp_path / "runs").iterdir()
    state = state_of(read_journal(folder / "journal.jsonl"))
    results = [m for m in state.history() if isinstance(m, ToolMessage)]
    assert [(result.outcome, result.started) for result in results] == [first, second]
    assert state.segment_end is None
    assert read_record(folder).status is Status.RUNNING
