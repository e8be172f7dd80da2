"""How a run of an agent ended, in the form that a test looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox_agent_sandbox.outcome import Outcome, Rung, StartedState, Survivor

from sandbox_agent.conversation import Conversation
from sandbox_agent.journal import events
from sandbox_agent.journal.result import RunResult
from sandbox_agent.journal.status import Status
from sandbox_agent.reports.report import Call, Report, report_of


@dataclass(frozen=True)
class CallSeen:
    """A call of the model, as the journal has it. text: what the tool printed and returned; the
    middle of a long text is left out. rung: the last one of the ladder that was needed; None for a
    call that ended without being stopped."""

    id: str
    tool: str
    arguments: Mapping[str, Any] | str
    outcome: Outcome | None
    started: StartedState
    text: str
    exit_status: int | None
    rung: Rung | None
    rungs_ms: Mapping[str, float]


@dataclass(frozen=True)
class AgentResult:
    """How a run ended. run: what `Conversation.run()` returned. calls: those of the model, in their
    order. events: the whole journal."""

    run: RunResult
    calls: tuple[CallSeen, ...]
    events: tuple[events.AnyEvent, ...]

    @property
    def status(self) -> Status:
        return self.run.status

    @property
    def exit_code(self) -> int:
        return self.run.exit_code

    @property
    def message(self) -> str | None:
        """The agent's final message; None if the run ended before it."""
        return self.run.message

    @property
    def reason(self) -> str:
        return self.run.reason

    @property
    def survivors(self) -> tuple[Survivor, ...]:
        return self.run.survivors

    def outcomes(self) -> list[str]:
        """The outcome of each call, in their order."""
        return [str(call.outcome) for call in self.calls]

    @property
    def report(self) -> Report:
        """All that reports are made from."""
        return report_of(self.run.run_dir.name, self.run.run_dir, self.events)


def result_of(conversation: Conversation, run: RunResult) -> AgentResult:
    journal = conversation.events
    report = report_of(run.run_dir.name, run.run_dir, journal)
    seen = tuple(_seen(call) for call in report.calls.values() if not call.is_verify)
    return AgentResult(run, seen, journal)


def _seen(call: Call) -> CallSeen:
    return CallSeen(
        id=call.id,
        tool=call.tool,
        arguments=call.arguments,
        outcome=call.outcome,
        started=call.started,
        text=call.output.whole(),
        exit_status=call.exit_status,
        rung=call.rung,
        rungs_ms=call.rungs_ms,
    )
