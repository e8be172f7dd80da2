"""Hand-made runs for tests of reports: the events of a journal, and the report that follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sandbox_agent.journal.events import (
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
from sandbox_agent.reports.report import Report, report_of
from sandbox_agent_sandbox.outcome import Outcome, StartedState, Survivor
from sandbox_agent_sandbox.protection.finding import Finding

RUN = "20261128T100000000-abcdef"

HOSTILE = (
    "<script>alert(1)</script> ]]> &amp; \x00\x07\x1b[2J\x1b]0;x\x07 \u202eabc\ufffe\ud800 | `a` "
    "``` [x](javascript:y) @team <!-- \r\n::add-mask::x\n##vso[task.setvariable variable=a]b\n"
    "##[error]x\nsection_start:1:a\r\x1b[0K\n````\n--- x\n"
)
"""Text that has an effect where it is not escaped."""


def at(seconds: float) -> dict[str, Any]:
    return {"at": f"2026-11-28T10:00:{int(seconds) % 60:02d}.000Z", "monotonic": 100.0 + seconds}


def events(
    *,
    verify: tuple[tuple[str, int, str], ...] = (),
    later: tuple[str, ...] = (),
    status: str | None = "done",
    exit_code: int = 0,
    reason: str = "",
    text: str = "All done.",
    name: str = "task",
    env: dict[str, Any] | None = None,
    workspace: str = "/work",
    survivors: tuple[Survivor, ...] = (),
    findings: tuple[Finding, ...] = (),
    output: str = "out",
    plan: dict[str, Any] | None = None,
) -> list[AnyEvent]:
    """A run with one call. verify: command, exit status and output of each that was started. later:
    commands that were not. status: None if the agent was killed."""
    task = {
        "workspace": {"path": workspace},
        "verify": [*(command for command, _, _ in verify), *later],
        "sandbox": {"env": env or {}},
    }
    settings = RecordedSettings("scripted:steps.yaml", {}, task)
    made: list[AnyEvent] = [
        JournalOpened(version=2, run=RUN, name=name, settings=settings, **at(0)),
        UserText(text=text, **at(0)),
        SegmentStarted(number=1, pid=1, settings=settings, tools=(), plan=plan, **at(0)),
        TurnTaken(turn=1, text=text, final=False, calls=(_call(text),), **at(1)),
        *_ended("call_1_1", "shell", None, 3, output, 2),
        TurnTaken(turn=2, text=text, final=True, **at(4)),
    ]
    for place, (command, code, printed) in enumerate(verify, 1):
        made += _ended(f"verify_1_{place}", "shell", command, code, printed, 4 + place)
        made.append(
            Verified(command=command, call=f"verify_1_{place}", passed=not code, **at(5 + place))
        )
    if status is not None:
        made.append(
            SegmentEnded(
                number=1,
                status=status,
                exit_code=exit_code,
                reason=reason,
                requests=2,
                calls=1,
                seconds=9.5,
                survivors=survivors,
                findings=findings,
                **at(10),
            )
        )
    return made


def _call(text: str) -> ToolCall:
    return ToolCall("call_1_1", "shell", {"command": text})


def _ended(
    call: str, tool: str, command: str | None, code: int, output: str, begun: float
) -> list[AnyEvent]:
    outcome = Outcome.ERROR if code else Outcome.OK
    return [
        Dispatching(call=call, tool=tool, command=command, **at(begun)),
        Started(call=call, **at(begun)),
        Ended(
            call=call,
            outcome=outcome,
            started=StartedState.YES,
            content=output,
            exit_status=code,
            **at(begun + 0.5),
        ),
    ]


def report(**more: Any) -> Report:
    return report_of("agent-run", Path("/runs/agent-run"), events(**more))
