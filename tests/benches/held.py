"""What many interrupted runs leave in one host process. Used by the suite `memory` and by tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import observer


def _status() -> dict[str, str]:
    """/proc/self/status (proc_pid_status(5))."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return dict(line.split(":", 1) for line in lines)


@dataclass(frozen=True)
class Holdings:
    """What a process, and the host for it, holds."""

    descriptors: int
    threads: int
    resident_kib: int
    zombies: int
    mounts: int
    cgroups: int
    files: int

    @classmethod
    def now(cls) -> Holdings:
        status = _status()
        mine = str(os.getpid())
        zombies = 0
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError):
                    fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                    zombies += fields[0] == "Z" and fields[1] == mine
        cgroups = 0
        with contextlib.suppress(OSError):
            lines = Path("/proc/cgroups").read_text().splitlines()[1:]
            cgroups = sum(int(line.split()[2]) for line in lines)
        return cls(
            descriptors=len(os.listdir("/proc/self/fd")),
            threads=int(status["Threads"]),
            resident_kib=int(status["VmRSS"].split()[0]),
            zombies=zombies,
            mounts=len(Path("/proc/self/mountinfo").read_text().splitlines()),
            cgroups=cgroups,
            files=sum(1 for _ in os.scandir(tempfile.gettempdir())),
        )


def interrupted_runs(folder: Path, runs: int, each: Callable[[int], object]) -> None:
    """Conversations made, run, interrupted once their tool is up, and closed, one after another.

    each: called after every one, with its number.
    """
    from sandbox_agent.conversation import Conversation
    from sandbox_agent.models import ModelCall, ModelTurn
    from sandbox_agent.models.scripted import ScriptedModel, Step

    step = Step(ModelTurn("", (ModelCall("shell", {"command": "echo up; sleep 300 & sleep 300"}),)))
    for number in range(1, runs + 1):
        conversation = Conversation(
            model=ScriptedModel([step]),
            tools=["shell"],
            workspace=folder,
            output_dir=folder / "runs",
            interrupt=(5, 1),
            on_output=lambda *_: conversation.interrupt(),  # noqa: B023  (its own iteration's)
        )
        with conversation:
            conversation.send_message("go")
            result = conversation.run()
        assert result.exit_code == 130, result
        shutil.rmtree(conversation.run_dir)
        each(number)


WARM_UP = 20
"""Runs until everything that is made once has been made."""


def growth(folder: Path, runs: int, warm_up: int = WARM_UP) -> tuple[Holdings, Holdings]:
    """What is held after the warm-up, and after `runs` more runs."""
    seen: list[Holdings] = []

    def uncounted() -> int:
        """Threads of the kernel beyond those that `threading` counts."""
        return int(_status()["Threads"]) - threading.active_count()

    usual = uncounted()  # a worker of pytest-xdist has one

    def each(number: int) -> None:
        if number in (warm_up, warm_up + runs):
            # join() waits for Python's part of a thread; the kernel has it a moment longer.
            observer.eventually(lambda: uncounted() <= usual, 20)
            seen.append(Holdings.now())

    interrupted_runs(folder, warm_up + runs, each)
    before, after = seen
    return before, after
