"""Run folders with hand-made journals: cheap, and as odd as a test wants them. Imported by name."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sandbox_agent.journal.events import (
    VERSION,
    AgentsFile,
    AnyEvent,
    Dispatching,
    Ended,
    JournalOpened,
    RecordedSettings,
    SegmentEnded,
    SegmentStarted,
    Started,
    ToolCall,
    TurnTaken,
    UserText,
    Verified,
)
from sandbox_agent.journal.file import JOURNAL_FILE, encode
from sandbox_agent.journal.usage import TokenUsage
from sandbox_agent_sandbox.outcome import Outcome, StartedState

E = TypeVar("E")

ID = "20261128T100000000-abcdef"
AT = "2026-11-28T10:00:00.000Z"

HOSTILE = (
    "<script>alert(1)</script> \x1b[31m\x1b]52;c;eA==\x07 ]]> nul\0 \u202edesrever "
    "\x9b31m line\u2028sep \n::add-mask::x\n##vso[task.complete]\nsection_start:1:a"
)
"""What comes from inside and must not reach a terminal as it is."""


class Clock:
    """Stamps events: `clock(Ended, 2.5, call="a")` is 2.5 seconds after the first one."""

    def __init__(self, at: str = AT, monotonic: float = 100.0) -> None:
        self.at, self.monotonic = at, monotonic

    def __call__(self, kind: type[E], after: float = 0.0, /, **fields: Any) -> E:
        return kind(at=self.at, monotonic=self.monotonic + after, **fields)


def settings(model: str = "scripted:steps.yaml", **task: Any) -> RecordedSettings:
    return RecordedSettings(model, {}, {"workspace": {"path": "/work", "mode": "direct"}, **task})


def opened(clock: Clock, name: str | None = None, run: str = ID, **task: Any) -> JournalOpened:
    return clock(JournalOpened, version=VERSION, run=run, name=name, settings=settings(**task))


def begun(
    clock: Clock, number: int = 1, agents_md: AgentsFile | None = None, **task: Any
) -> SegmentStarted:
    return clock(
        SegmentStarted, number=number, pid=4242, settings=settings(**task), tools=(), plan=None,
        agents_md=agents_md,
    )  # fmt: skip


def turn(
    clock: Clock, number: int, seconds: float, *calls: ToolCall, text: str = "", **more: Any
) -> TurnTaken:
    return clock(TurnTaken, seconds, turn=number, text=text, final=not calls, calls=calls, **more)


def shell(call: str, command: str) -> ToolCall:
    return ToolCall(call, "shell", {"command": command})


def made(
    clock: Clock, call: str, begin: float, end: float, content: str = "", **more: Any
) -> tuple[AnyEvent, ...]:
    """A call that was made and has ended. more: of `Ended`, and `command` for a `verify` one."""
    more = {"outcome": Outcome.OK, "started": StartedState.YES, **more}
    command = more.pop("command", None)
    return (
        clock(Dispatching, begin, call=call, tool="shell", command=command, timeout=30.0),
        clock(Started, begin, call=call),
        clock(Ended, end, call=call, content=content, **more),
    )


def ended(
    clock: Clock, seconds: float, status: str = "done", code: int = 0, number: int = 1, **more: Any
) -> SegmentEnded:
    more = {"reason": "the agent is done", "requests": 2, "calls": 1, **more}
    return clock(
        SegmentEnded, seconds, number=number, status=status, exit_code=code, seconds=seconds, **more
    )


def usage(tokens: int, cost: float | None = None) -> TokenUsage:
    return TokenUsage(input=tokens - 1, output=1, cost_usd=cost)


def failed_run(clock: Clock | None = None, name: str | None = "fix") -> list[AnyEvent]:
    """A run of two turns whose `verify` failed."""
    clock = clock or Clock()
    lines = "".join(f"line {number}\n" for number in range(1, 31))
    return [
        opened(clock, name),
        clock(UserText, text="Make pytest pass."),
        begun(clock),
        turn(clock, 1, 1.0, shell("call_1_1", "ls -la"), text="I look.", usage=usage(100, 0.01)),
        *made(clock, "call_1_1", 1.1, 1.5, "total 0\n", exit_status=0),
        turn(clock, 2, 3.0, text="Done.", usage=usage(200, 0.02)),
        *made(
            clock, "verify_1_1", 3.1, 4.1, lines, outcome=Outcome.ERROR, exit_status=1,
            command="pytest -q",
        ),
        clock(Verified, 4.1, command="pytest -q", call="verify_1_1", passed=False),
        ended(
            clock, 4.2, "failed", 1, reason="verify failed: pytest -q", usage=usage(300, 0.03)
        ),
    ]  # fmt: skip


def write(folder: Path, events: list[AnyEvent], tail: bytes = b"") -> Path:
    """A run folder with this journal, and `tail` behind it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JOURNAL_FILE).write_bytes(b"".join(map(encode, events)) + tail)
    return folder


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The journal is locked, as by a run that is going."""
    fd = os.open(folder / JOURNAL_FILE, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
