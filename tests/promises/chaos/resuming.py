"""Going on with a run whose agent was killed: in a new process, as its user would."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from sandbox_agent.conversation import Conversation
from sandbox_agent.models import Model, ModelTurn

from chaos.agent import STDERR, history_problems

LIMIT = 20.0
"""Seconds that a run may take which has nothing to do."""


class Done(Model):
    """Says that it is done, and what is wrong with the history that it is sent."""

    name = "done"

    def __init__(self) -> None:
        self.asked = 0
        self.complaints: list[str] = []

    async def complete(self, history: Any, tools: Any, token: Any, on_delta: Any) -> ModelTurn:
        self.asked += 1
        self.complaints += history_problems(history)
        return ModelTurn("Done.", final=True)


def complaints(run_dir: Path, work: Path) -> list[str]:
    """Resume the run; what is wrong with how that goes, and with what it finds."""
    journal = run_dir / "journal.jsonl"
    if not journal.exists() or b"\n" not in journal.read_bytes():
        return []  # it was killed before there was anything to resume
    before = _begun(work)
    told = _in_a_child(run_dir, work)
    if told is None:
        return [f"resume: it did not end in {LIMIT:.0f} s"]
    found = [f"resume: {line}" for line in told["complaints"]]
    if told["error"]:
        return [*found, f"resume: it failed: {told['error']}"]
    if told["status"] != "done" or not told["asked"]:
        found.append(f"resume: {told['status']}, {told['asked']} requests: {told['reason']}")
    if _begun(work) != before:
        found.append("resume: a call has run again")
    return found + _journal(journal)


def _journal(journal: Path) -> list[str]:
    events = [json.loads(line) for line in journal.read_bytes().splitlines()]
    found = []
    for kind in ("dispatching", "started", "ended"):
        counts = Counter(event["call"] for event in events if event["event"] == kind)
        found += [f"resume: {call}: {n} x {kind}" for call, n in counts.items() if n != 1]
    still: set[str] = set()
    for event in events:
        if event["event"] == "model_turn":
            still |= {call["id"] for call in event["calls"]}
        elif event["event"] == "ended":
            still.discard(event["call"])
        elif event["event"] == "segment" and still:
            found.append(f"resume: {sorted(still)} had no end when the run went on")
    return found + [f"resume: {call} has no end" for call in sorted(still)]


def _begun(work: Path) -> dict[str, tuple[int, bytes]]:
    """What the tools wrote when they began, and when that was."""
    files = (work / ".chaos").glob("*.began")
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def _in_a_child(run_dir: Path, work: Path) -> dict[str, Any] | None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            told = _resume(run_dir, work)
        except BaseException:
            told = {"complaints": [], "error": traceback.format_exc()}
        os.write(write, json.dumps(told).encode())
        os._exit(0)
    os.close(write)
    try:
        ready, _, _ = select.select([read], [], [], LIMIT)
        data = os.read(read, 1 << 20) if ready else b""
    finally:
        os.close(read)
        if not ready:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return json.loads(data) if data else None


def _resume(run_dir: Path, work: Path) -> dict[str, Any]:
    log = os.open(work.parent / STDERR, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    model = Done()
    with Conversation.resume(
        run_dir,
        message="Go on.",
        model=model,
        tools=["shell"],
        workspace=work,
        sandbox={},
        verify=[],
        budgets={},
    ) as conversation:
        result = conversation.run()
    return {
        "complaints": model.complaints,
        "error": None,
        "asked": model.asked,
        "status": result.status,
        "reason": result.reason,
    }
