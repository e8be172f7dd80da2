"""`result.json`: how a run ended, in one file, for people and for scripts.

It is written with status `running` when a run starts, and replaced as a whole at the end. So a
reader finds one or the other, never a half. If the agent was killed, `running` stays.

The journal is the truth, and this file follows from it. Where they differ, the journal counts:
`standing` reads both, and `record_of` makes the record anew.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from sandbox_agent_sandbox.outcome import LimitMet, Outcome, Rung, StartedState, Survivor
from sandbox_agent_sandbox.protection.finding import Finding

from sandbox_agent.errors import JournalError
from sandbox_agent.journal import room
from sandbox_agent.journal.events import AgentsFile, wall_clock
from sandbox_agent.journal.state import CallState, Phase, RunState
from sandbox_agent.journal.status import Status
from sandbox_agent.journal.usage import rounded

RESULT_FILE = "result.json"
SPARE_FILE = ".result.json.next"
"""The next record, until it gets its name."""


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
    """One call of the whole run. outcome: None while it is in flight. private_files, limits: as in
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
    limits: tuple[LimitMet, ...] = ()


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
    agents_md: what the model was told of the workspace's AGENTS.md; None for nothing. findings:
    what tools left or changed that may start programs when the user works in there.
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
    agents_md: AgentsFile | None = None
    findings: tuple[Finding, ...] = ()


def calls_of(state: RunState) -> tuple[CallRecord, ...]:
    """The calls that the model made, in their order."""
    return tuple(_call(call) for call in state.calls.values() if not call.verify)


def _call(call: CallState) -> CallRecord:
    ended = call.brief
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
        limits=ended.limits,
    )


def verified_of(state: RunState) -> tuple[VerifyRecord, ...]:
    """The `verify` commands of the last segment."""
    records = []
    for verified in state.verified:
        ended = state.calls[verified.call].brief
        status = ended.exit_status if ended is not None else None
        records.append(VerifyRecord(verified.command, verified.call, verified.passed, status))
    return tuple(records)


def record_of(state: RunState, run: str) -> Record | None:
    """The record of the last segment, from what the journal says alone. run: the run's id.

    None if the segment has not ended, or the journal does not say what the run was made with.
    """
    end, settings = state.segment_end, state.settings()
    if end is None or settings is None:
        return None
    begun = state.segment if state.segment and state.segment.number == end.number else None
    usage = end.usage
    return Record(
        run=run,
        task=None if state.opened is None else state.opened.name,
        status=Status(end.status),
        exit_code=end.exit_code,
        reason=end.reason,
        pid=0 if begun is None else begun.pid,
        segment=end.number,
        model=settings.model,
        workspace=_workspace(settings.task),
        times=Times(end.at if begun is None else begun.at, end.at, end.seconds),
        usage=Usage(
            end.requests,
            end.calls,
            0 if usage is None else usage.total,
            None if usage is None else rounded(usage.cost_usd),
        ),
        message=state.last_words(),
        verify=verified_of(state),
        survivors=end.survivors,
        calls=calls_of(state),
        plan=None if begun is None else begun.plan,
        agents_md=None if begun is None else begun.agents_md,
        findings=end.findings,
    )


def _workspace(task: dict[str, Any]) -> str:
    workspace = task.get("workspace")
    path = workspace.get("path") if isinstance(workspace, dict) else workspace
    return path if isinstance(path, str) else ""


def complete_record(folder: Path, state: RunState) -> bool:
    """Write the record of a run that has ended, unless it is there. state: what its journal says.

    Returns whether it was written. Raises OSError.
    """
    record = record_of(state, folder.name if state.opened is None else state.opened.run)
    if record is None:
        return False
    with contextlib.suppress(OSError, JournalError):
        there = read_record(folder)
        if (there.segment, there.status) == (record.segment, record.status):
            return False
    write_record(folder, record)
    return True


class RecordFile:
    """Replaces the record of a run folder. Every step that fails is tried once more.

    The next record is written into a spare file beside it, which keeps room on the disk for that,
    so that a full disk does not prevent it. The folder stays open: the record reaches it also when
    somebody has renamed it meanwhile.

    durable: sync the content to the disk before the file gets its name, so that a power cut leaves
    the old record or the new one (rename(2) orders nothing). Blocks while the disk works. keep: is
    given the open file of a new record that has room left, to free that and close it later.

    All but `close` raise OSError.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = False,
        keep: Callable[[int], object] = os.close,
    ) -> None:
        self._path = folder
        self._keep = keep
        self._has_room = False
        self._durable = durable
        self._folder = self._spare = -1
        self._missing: OSError | None = None  # why nothing is staged

    def keep_room(self, size: int) -> None:
        """Reserve so many bytes for the next record."""
        self._open()
        self._has_room = room.reserve(self._spare, 0, size)

    def stage(self, record: Record) -> None:
        """Write the next record, whose time is `commit`."""
        data = encoded(record)
        try:
            _twice(lambda: self._write(data))
        except OSError as error:
            self._missing = error
            raise
        self._missing = None

    def commit(self) -> None:
        """Replace the record by the one that was staged. Harmless when that is done."""
        if self._missing is not None:
            raise self._missing
        if self._spare < 0:
            return
        _twice(self._rename)
        spare, self._spare = self._spare, -1
        if self._has_room:
            self._has_room = False
            self._keep(spare)
        else:
            os.close(spare)

    def withdraw(self) -> None:
        """Remove a record that is not true any more, and cannot be replaced."""
        with contextlib.suppress(OSError):
            os.unlink(RESULT_FILE, dir_fd=self._folder)

    def close(self) -> None:
        """Leave nothing but the record."""
        if self._spare >= 0:
            with contextlib.suppress(OSError):
                os.unlink(SPARE_FILE, dir_fd=self._folder)
        for fd in (self._spare, self._folder):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self._folder = self._spare = -1

    def _open(self) -> None:
        if self._folder < 0:
            flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
            self._folder = os.open(self._path, flags)
        if self._spare < 0:
            # Not truncated: what an agent that was killed has left is written over.
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._spare = os.open(SPARE_FILE, flags, 0o600, dir_fd=self._folder)

    def _write(self, data: bytes) -> None:
        self._open()
        written = 0
        while written < len(data):
            written += os.pwrite(self._spare, data[written:], written)
        if os.fstat(self._spare).st_size != len(data):
            os.ftruncate(self._spare, len(data))
        if self._durable:
            os.fsync(self._spare)

    def _rename(self) -> None:
        folder = self._folder
        try:
            os.rename(SPARE_FILE, RESULT_FILE, src_dir_fd=folder, dst_dir_fd=folder)
        except FileNotFoundError:
            # It may have its name already: a signal handler raised before that was noted.
            there = os.stat(RESULT_FILE, dir_fd=folder, follow_symlinks=False)
            if not os.path.samestat(there, os.fstat(self._spare)):
                raise


def _twice(work: Callable[[], None]) -> None:
    try:
        work()
    except OSError:
        work()


def encoded(record: Record) -> bytes:
    """The content of the file."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def write_record(folder: Path, record: Record, *, durable: bool = False) -> None:
    """Replace the record. Raises OSError; the old record then stays. durable: see `RecordFile`."""
    file = RecordFile(folder, durable=durable)
    try:
        file.stage(record)
        file.commit()
    finally:
        file.close()


def read_record(folder: Path) -> Record:
    """The record of a run folder. Raises JournalError if the file is not a record, and OSError."""
    path = folder / RESULT_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (msgspec.MsgspecError, ValueError) as error:
        raise JournalError(f"{path}: this is not a record of a run: {error}") from None
