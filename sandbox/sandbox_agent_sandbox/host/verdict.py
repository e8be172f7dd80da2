"""Decides the outcome of a call from what the host saw of it. Pure."""

from __future__ import annotations

import signal

import msgspec
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.messages import Result, ResultKind

from sandbox_agent_sandbox.call_status import WORKER_FAILED
from sandbox_agent_sandbox.limits.struck import Usage, ran_out_elsewhere, struck
from sandbox_agent_sandbox.outcome import CallResult, Outcome, Rung, StartedState, Survivor

_NAMED, _NAME = 8, 100
"""How many of the processes that a call left behind are named, and the characters of a name."""

_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}


class Evidence(msgspec.Struct, frozen=True):
    """What the host saw.

    result: the worker's last message. started: its acknowledgement came. sent: the call was put
    into the worker's inbox. reason: the first reason of the flag; None when it was not set.
    finished: the result came before the flag. exit_status: the worker's, from waitpid. failure:
    what went wrong in the host or in the protocol, "" for nothing. usage: what it used.
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
    stdout: bytes = b""
    stderr: bytes = b""
    output_bytes: int = 0
    left_out: int = 0
    usage: Usage = Usage()


def decide(seen: Evidence) -> CallResult:
    """The call's result. The worker says what its tool returned, and never how the call ended.

    A call that died before its tool began was not made: no tool's code had run. What comes later is
    the tool's own end, unless the worker says that there was nothing to run.
    """
    outcome, detail = _outcome(seen)
    unmade = seen.reason is None and (
        seen.result.kind is ResultKind.UNMADE if seen.result is not None else not seen.started
    )
    result = seen.result
    exit_status = seen.exit_status
    if result is not None:
        exit_status = result.exit_status
    elif outcome is Outcome.SKIPPED:
        exit_status = None  # it would be that of a worker that did not begin with its tool
    met = struck(seen.usage, outcome, exit_status, seen.stdout + b"\n" + seen.stderr)
    # The output is bounded for the model as well, which is told so in its place.
    told = [f"limit: {one.text}" for one in met if one.limit != "output"]
    told = [text for text in told if text not in detail]
    return CallResult(
        id=seen.id,
        outcome=outcome,
        started=StartedState.YES if seen.started else StartedState.NO,
        content=result.content if result is not None else "",
        stdout=seen.stdout,
        stderr=seen.stderr,
        output_bytes=seen.output_bytes,
        left_out=seen.left_out,
        exit_status=exit_status,
        rung=seen.rung,
        rungs_ms=seen.rungs_ms,
        survivors=seen.survivors,
        detail="; ".join(filter(None, (detail, ran_out_elsewhere(seen.usage), *told))),
        images=result.images if result is not None else (),
        private_files=result.private_files if result is not None else (),
        made=not unmade,
        limits=met,
    )


def _outcome(seen: Evidence) -> tuple[Outcome, str]:
    result = seen.result
    if result is not None and (seen.finished or seen.reason is None):
        match result.kind:
            case ResultKind.OK:
                return Outcome.OK, _left(result)
            case ResultKind.ERROR:
                return Outcome.ERROR, _left(result)
            case ResultKind.SKIPPED:
                return Outcome.SKIPPED, "it was cancelled before it began"
            case ResultKind.UNMADE:
                # The worker exits so when it failed itself, and not the import of the tool.
                failed = seen.exit_status == WORKER_FAILED
                return Outcome.CRASHED if failed else Outcome.ERROR, ""
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
        return f"its worker was ended by {_signal_name(-status)}{_senders(-status)}"
    return f"its worker exited with status {status} before it gave a result"


def _left(result: Result) -> str:
    """Which processes were still there when the tool had returned; "" for none. A tool may have
    written what the worker reports, so it is bounded here."""
    if result.left_count <= 0:
        return ""
    named = [command[:_NAME] for command in result.left[:_NAMED]]
    others = result.left_count - len(named)
    if others > 0:
        named.append(f"{others} more")
    noun = "process" if result.left_count == 1 else "processes"
    return f"{result.left_count} {noun} in the background ended with the call: {', '.join(named)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _senders(number: int) -> str:
    """Where the signal may have come from, for those that are no fault of the worker itself."""
    if number in _FAULTS:
        return ""
    if number == signal.SIGKILL:
        return ": a process of this call sent it, or it came from outside, or memory ran out"
    return ": a process of this call sent it, or it came from outside"
