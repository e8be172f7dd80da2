"""Decides the outcome of a call from what the host saw of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.messages import Result, ResultKind

from sandbox_agent_sandbox.outcome import CallResult, Outcome, Rung, StartedState, Survivor


@dataclass(frozen=True)
class Evidence:
    """What the host saw.

    result: the worker's last message. started: its acknowledgement came. sent: the call was put
    into the worker's inbox. reason: the first reason of the flag; None when it was not set.
    finished: the result came before the flag. exit_status: the worker's, from waitpid. failure:
    what went wrong in the host or in the protocol, "" for nothing.
    """

    id: str
    sent: bool
    started: bool
    result: Result | None
    finished: bool
    reason: CancelReason | None
    exit_status: int | None
    rung: Rung | None
    rungs_ms: dict[str, float]
    survivors: tuple[Survivor, ...]
    failure: str
    output: str
    output_bytes: int


def decide(seen: Evidence) -> CallResult:
    """The call's result. The worker says what its tool returned, and never how the call ended."""
    outcome, detail = _outcome(seen)
    result = seen.result
    exit_status = seen.exit_status
    if result is not None:
        exit_status = result.exit_status
    elif outcome is Outcome.SKIPPED:
        exit_status = None  # it would be that of a worker that did not begin with its tool
    return CallResult(
        id=seen.id,
        outcome=outcome,
        started=StartedState.YES if seen.started else StartedState.NO,
        content=result.content if result is not None else "",
        output=seen.output,
        output_bytes=seen.output_bytes,
        exit_status=exit_status,
        rung=seen.rung,
        rungs_ms=seen.rungs_ms,
        survivors=seen.survivors,
        detail=detail,
        images=result.images if result is not None else (),
    )


def _outcome(seen: Evidence) -> tuple[Outcome, str]:
    result = seen.result
    if result is not None and (seen.finished or seen.reason is None):
        match result.kind:
            case ResultKind.OK:
                return Outcome.OK, ""
            case ResultKind.ERROR:
                return Outcome.ERROR, ""
            case ResultKind.SKIPPED:
                return Outcome.SKIPPED, "it was cancelled before it began"
    if seen.reason is not None:
        why = seen.reason.value
        if seen.reason is CancelReason.TIMEOUT:
            return Outcome.TIMEOUT, "its time was up"
        if not seen.started and not seen.survivors:
            return Outcome.SKIPPED, f"{why} before it began"
        if seen.rung is Rung.KILL:
            return Outcome.KILLED, why
        return Outcome.CANCELLED, why
    if not seen.sent and not seen.started:
        return Outcome.SKIPPED, seen.failure or "it could not be sent"
    if result is not None:
        return Outcome.CRASHED, "it was terminated from outside (SIGTERM)"
    return Outcome.CRASHED, seen.failure or _death(seen.exit_status)


def _death(status: int | None) -> str:
    if status is None:
        return "its processes were killed from outside, or the machine ran out of memory"
    if status < 0:
        return f"its worker died of signal {-status}"
    return f"its worker exited with status {status} before it gave a result"
