"""`result.json`: how a run ended, in one file, for people and for scripts.

It is written with status `running` when a run starts, and replaced as a whole at the end. So a
reader finds one or the other, never a half. If the agent was killed, `running` stays; the journal
then says how far the run came.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import msgspec
from sandbox_agent_sandbox.outcome import Outcome, Rung, StartedState, Survivor

from sandbox_agent.errors import JournalError
from sandbox_agent.journal.events import wall_clock
from sandbox_agent.journal.state import CallState, Phase, RunState
from sandbox_agent.journal.status import Status

RESULT_FILE = "result.json"


class Times(msgspec.Struct, frozen=True):
    """Of this segment. started, ended: ISO 8601, UTC. seconds: wall time."""

    started: str
    ended: str | None = None
    seconds: float = 0.0

    def ending(self, seconds: float) -> Times:
        """The same, ended now."""
        return Times(self.started, wall_clock(), round(seconds, 3))


class Usage(msgspec.Struct, frozen=True):
    """Of this segment. requests: answers of the model. calls: that the model made.

    tokens, cost_usd: what the answers used, as the budgets of these names count it. cost_usd: None
    if no price is known.
    """

    requests: int = 0
    calls: int = 0
    tokens: int = 0
    cost_usd: float | None = None


class CallRecord(msgspec.Struct, frozen=True):
    """One call of the whole run. outcome: None while it is in flight. private_files: as in
    `Ended`."""

    id: str
    tool: str
    outcome: Outcome | None
    started: StartedState
    exit_status: int | None = None
    rung: Rung | None = None
    rungs_ms: dict[str, float] = {}
    survivors: tuple[Survivor, ...] = ()
    private_files: tuple[str, ...] = ()


class VerifyRecord(msgspec.Struct, frozen=True):
    """One `verify` command of this segment."""

    command: str
    call: str
    passed: bool
    exit_status: int | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """All of `result.json`.

    run: the run's id. task: its name. pid: of the agent, to check whether `running` is still true.
    segment: counts the `run()` calls of the conversation. plan: how the sandbox was built. message:
    the agent's final message. survivors: processes that could not be stopped, usually none.
    """

    run: str
    task: str | None
    status: Status
    exit_code: int | None
    reason: str
    pid: int
    segment: int
    model: str
    workspace: str
    times: Times
    usage: Usage = Usage()
    message: str | None = None
    verify: tuple[VerifyRecord, ...] = ()
    survivors: tuple[Survivor, ...] = ()
    calls: tuple[CallRecord, ...] = ()
    plan: dict[str, Any] | None = None


def calls_of(state: RunState) -> tuple[CallRecord, ...]:
    """The calls that the model made, in their order."""
    return tuple(_call(call) for call in state.calls.values() if not call.verify)


def _call(call: CallState) -> CallRecord:
    ended = call.ended
    if ended is None:
        started = {Phase.ASKED: StartedState.NO, Phase.STARTED: StartedState.YES}
        return CallRecord(call.id, call.tool, None, started.get(call.phase, StartedState.MAYBE))
    return CallRecord(
        id=call.id,
        tool=call.tool,
        outcome=ended.outcome,
        started=ended.started,
        exit_status=ended.exit_status,
        rung=ended.rung,
        rungs_ms=ended.rungs_ms,
        survivors=ended.survivors,
        private_files=ended.private_files,
    )


def verified_of(state: RunState) -> tuple[VerifyRecord, ...]:
    """The `verify` commands of the last segment."""
    records = []
    for verified in state.verified:
        ended = state.calls[verified.call].ended
        status = ended.exit_status if ended is not None else None
        records.append(VerifyRecord(verified.command, verified.call, verified.passed, status))
    return tuple(records)


def write_record(folder: Path, record: Record, *, durable: bool = False) -> None:
    """Replace the record. Raises OSError; the old record then stays.

    durable: sync the content to the disk before the file gets its name, so that a power cut leaves
    the old record or the new one (rename(2) orders nothing). Blocks while the disk works.
    """
    path = folder / RESULT_FILE
    temporary = folder / f".{RESULT_FILE}.{os.getpid()}"
    data = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(fd)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read_record(folder: Path) -> Record:
    """The record of a run folder. Raises JournalError if the file is not a record, and OSError."""
    path = folder / RESULT_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (msgspec.MsgspecError, ValueError) as error:
        raise JournalError(f"{path}: this is not a record of a run: {error}") from None
