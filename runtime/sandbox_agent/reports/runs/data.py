"""A run for a script: what `sandbox-agent show --json` prints."""

from __future__ import annotations

import msgspec
from sandbox_agent_sandbox.outcome import Outcome, Rung, StartedState, Survivor
from sandbox_agent_sandbox.protection.finding import Finding

from sandbox_agent.journal.usage import rounded
from sandbox_agent.reports.report import Call, Report
from sandbox_agent.reports.runs.call_text import Masked
from sandbox_agent.reports.runs.limits import limits_met
from sandbox_agent.reports.walls import missing_in, plan_of


class CallData(msgspec.Struct, frozen=True):
    """A call of the model, or a `verify` command. seconds: that it took; None if it has no end, or
    the journal does not say when it began. passed: of `verify`. The others: see the journal."""

    id: str
    tool: str
    command: str | None
    segment: int
    turn: int
    outcome: Outcome | None
    started: StartedState
    exit_status: int | None
    seconds: float | None
    passed: bool | None
    rung: Rung | None
    rungs_ms: dict[str, float]
    detail: str
    output_bytes: int
    output_file: str | None
    survivors: tuple[Survivor, ...]


class RunData(msgspec.Struct, frozen=True):
    """A run. begun: ISO 8601, UTC. exit_code, reason: of the last segment. message: the agent's
    final message, also a long one as a report keeps it. tokens, cost_usd, seconds: of all
    segments. findings: of the last segment, what tools left that may start programs. plan: the kind
    of the last segment's sandbox; "" if it had none. missing: the fields of its policy that were
    not enforced, each with the reason."""

    run: str
    name: str | None
    status: str
    exit_code: int | None
    reason: str
    model: str
    begun: str
    folder: str
    segments: int
    turns: int
    tokens: int | None
    cost_usd: float | None
    seconds: float
    message: str | None
    limits: tuple[str, ...]
    survivors: tuple[Survivor, ...]
    findings: tuple[Finding, ...]
    plan: str
    missing: dict[str, str]
    verify: tuple[CallData, ...]
    calls: tuple[CallData, ...]


def data_of(report: Report, masked: Masked) -> RunData:
    """The run. masked: replaces secrets in a text. verify: of the last segment."""
    usage, end, final = report.usage(), report.end, report.final_turn
    plan = None if report.last is None else report.last.plan
    return RunData(
        run=report.id or report.run,
        name=None if report.name is None else masked(report.name),
        status=report.status,
        exit_code=None if end is None else end.exit_code,
        reason="" if end is None else masked(end.reason),
        model=masked(report.model),
        begun=report.at,
        folder=masked(str(report.folder)),
        segments=len(report.segments),
        turns=len(report.turns),
        tokens=None if usage is None else usage.total,
        cost_usd=None if usage is None else rounded(usage.cost_usd),
        seconds=round(report.seconds(), 3),
        message=None if final is None else masked(final.text.whole()),
        limits=tuple(masked(what) for what in limits_met(report)),
        survivors=_masked(() if end is None else end.survivors, masked),
        findings=tuple(
            Finding(one.kind, masked(one.path), masked(one.what), one.call)
            for one in (() if end is None else end.findings)
        ),
        plan=masked(plan_of(plan)),
        missing={name: masked(why) for name, why in missing_in(plan).items()},
        verify=tuple(_call(call, masked) for call in report.verify_calls()),
        calls=tuple(_call(c, masked) for c in report.calls.values() if not c.is_verify),
    )


def _call(call: Call, masked: Masked) -> CallData:
    begun = call.asked if call.begun is None else call.begun
    took = None if begun is None or call.ended is None else round(call.ended - begun, 3)
    return CallData(
        id=call.id,
        tool=masked(call.tool),
        command=None if call.command is None else masked(call.command),
        segment=call.segment,
        turn=call.turn,
        outcome=call.outcome,
        started=call.started,
        exit_status=call.exit_status,
        seconds=took,
        passed=call.passed,
        rung=call.rung,
        rungs_ms=call.rungs_ms,
        detail=masked(call.detail),
        output_bytes=call.output_bytes,
        output_file=call.output_file,
        survivors=_masked(call.survivors, masked),
    )


def _masked(survivors: tuple[Survivor, ...], masked: Masked) -> tuple[Survivor, ...]:
    return tuple(Survivor(one.pid, masked(one.command)) for one in survivors)
