"""One call of a tool, from the request to its one end in the journal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from sandbox_agent_ipc.futures import cancelled_errors
from sandbox_agent_ipc.messages import FunctionRef
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.errors import SandboxError
from sandbox_agent_sandbox.outcome import CallResult, Outcome, StartedState
from sandbox_agent_sandbox.protection.finding import Finding

from sandbox_agent.embedding.warn import complain
from sandbox_agent.journal.events import Dispatching, Ended, Started
from sandbox_agent.journal.folder import OUTPUT_FOLDER
from sandbox_agent.run.run_journal import RunJournal, not_written
from sandbox_agent.run.truncate import MODEL_BYTES, cut

if TYPE_CHECKING:
    from sandbox_agent_sandbox.host.cell import Cell
    from sandbox_agent_sandbox.policy.any_policy import AnyLimits
    from sandbox_agent_sandbox.protection.guard import Guard

OnOutput = Callable[[str, str, bytes], object]
"""Called with the call's id, "stdout" or "stderr", and each piece of output as it comes. If it
returns False, exactly, that stream is closed: a process that writes to it then gets SIGPIPE. If it
returns an asyncio.Future, no more is read from that stream until the future is done."""

_READ = 16 << 10
"""Bytes of the end of a failed call's output in which the reason is looked for."""


class Request(msgspec.Struct, frozen=True):
    """A call to make. command: the text of a `verify` command, else None. timeout: seconds.

    cwd: absolute; None for the workspace. env: variables beside those of the policy. on_started:
    called when the tool's code begins to run. on_output, separate_output, stdin: for this call,
    instead of those of its caller.
    """

    id: str
    tool: str
    function: FunctionRef
    arguments: Mapping[str, Any]
    timeout: float | None
    command: str | None = None
    cwd: str | None = None
    env: dict[str, str] = msgspec.field(default_factory=dict)
    on_started: Callable[[], object] | None = None
    on_output: OnOutput | None = None
    separate_output: bool | None = None
    stdin: int | None = None


class _InFlight:
    """A call that is going. on_output: None once the listener has failed. cancellation: raised when
    the end of the call is recorded; result: that end."""

    def __init__(self, on_output: OnOutput | None) -> None:
        self.on_output = on_output
        self.started = False
        self.result: CallResult | None = None
        self.cancellation: BaseException | None = None


class Caller(msgspec.Struct, frozen=True):
    """Makes calls in one sandbox and records them. The one way to a tool: for the calls of a model,
    for `verify`, and for `Sandbox`.

    folder: of the run; None where nothing is recorded. writable: the folders that tools can write.
    output_limit: how many bytes of a call's output are kept. time_limit: seconds that any call may
    take. on_output: gets the output as it comes. separate_output: keep standard error apart. stdin:
    a descriptor that calls get as standard input. guard: undoes what a call changed in the settings
    of git.
    """

    cell: Cell
    journal: RunJournal
    folder: Path | None
    workspace: Path
    writable: tuple[str, ...]
    output_limit: int
    time_limit: float | None
    on_output: OnOutput | None
    separate_output: bool
    stdin: int | None
    guard: Guard | None = None

    async def call(self, request: Request, token: RunToken) -> CallResult:
        """Make one call. When this returns, its end is recorded and its processes are gone.

        If the awaiting task is cancelled, the call is stopped first and its end is recorded, and
        then CancelledError is raised. A `verify` command that was never dispatched has no end to
        record.
        """
        if token.is_cancelled:
            if request.command is None:
                self.skip(request.id, token)
            return _skipped(request.id, token)
        dispatched = self.journal.record(
            Dispatching,
            call=request.id,
            tool=request.tool,
            command=request.command,
            timeout=request.timeout,
        )
        # Checked again: `on_event` may have cancelled the call when it got that event.
        if dispatched is None or token.is_cancelled:
            self.skip(request.id, token)
            return _skipped(request.id, token)
        state = _InFlight(request.on_output or self.on_output)
        result = self._explained(request, await self._dispatch(request, token, state))
        self.clean_up(request.function, result.outcome, request.arguments)
        self._record_end(result, self._undo(result))
        if state.cancellation is not None:
            raise state.cancellation
        return result

    def clean_up(self, function: FunctionRef, outcome: Outcome, arguments: object) -> None:
        """Remove the temporary file that a file tool left, if it was killed."""
        path = arguments.get("path") if isinstance(arguments, Mapping) else None
        if not isinstance(path, str):
            return
        # Imported here, since most calls name no file.
        from sandbox_agent.tools.killed_writes import remove_leftover

        remove_leftover(function, outcome, path, str(self.workspace), self.writable)

    def skip(self, call_id: str, token: RunToken) -> Ended | None:
        """Record the end of a call that was never sent."""
        return self.journal.record(
            Ended,
            call=call_id,
            outcome=Outcome.SKIPPED,
            started=StartedState.NO,
            detail=_skipped(call_id, token).detail,
        )

    def refuse(self, call_id: str, why: str) -> Ended | None:
        """Record the end of a call that cannot be made, as an error that the model can correct."""
        return self.journal.record(
            Ended, call=call_id, outcome=Outcome.ERROR, started=StartedState.NO, content=why
        )

    async def _dispatch(self, request: Request, token: RunToken, state: _InFlight) -> CallResult:
        from sandbox_agent_sandbox.host.cell import CallRequest

        def on_started() -> None:
            state.started = True
            self.journal.record(Started, call=request.id)
            if request.on_started is not None:
                _tell_started(request.id, request.on_started)

        def on_output(stream: str, data: bytes) -> object:
            return _pass_on(request.id, stream, data, state)

        def on_cancelled(result: CallResult) -> None:
            state.result = result

        separate = request.separate_output
        try:
            return await self.cell.call(
                CallRequest(
                    id=request.id,
                    function=request.function,
                    arguments=msgspec.json.encode(request.arguments),
                    cwd=request.cwd or str(self.workspace),
                    env=request.env,
                    timeout=request.timeout,
                    output_limit=self.output_limit,
                    on_started=on_started,
                    # Without a listener the cell slows down floods.
                    on_output=None if state.on_output is None else on_output,
                    on_cancelled=on_cancelled,
                    fresh_view=request.command is not None,
                    separate_output=self.separate_output if separate is None else separate,
                    stdin=self.stdin if request.stdin is None else request.stdin,
                ),
                token=token,
            )
        except cancelled_errors() as cancellation:
            # The task was cancelled, or the event loop is shutting down and cancels every task.
            # The cell stopped the call before it passed this on.
            state.cancellation = cancellation
            return state.result or CallResult(request.id, Outcome.SKIPPED, StartedState.NO)
        except SandboxError as error:
            self.journal.fail(error)
            why = str(error)
            if state.started:
                return CallResult(request.id, Outcome.CRASHED, StartedState.YES, detail=why)
            return CallResult(request.id, Outcome.UNKNOWN, StartedState.MAYBE, detail=why)

    def _explained(self, request: Request, result: CallResult) -> CallResult:
        """The result, with a hint where the sandbox itself is why the tool failed."""
        asked = request.arguments.get("timeout")
        if result.outcome is Outcome.TIMEOUT and _is_more(asked, request.timeout):
            detail = f"{result.detail}, less than the {asked:g} s that the call asked for"
            return msgspec.structs.replace(result, detail=detail)
        if result.outcome is not Outcome.ERROR or not result.made or result.limits:
            return result
        # Imported here: most calls do not fail.
        from sandbox_agent_sandbox.diagnosis.hints import hint_for

        printed = b"\n".join((result.stdout[-_READ:], result.stderr[-_READ:]))
        text = f"{printed.decode('utf-8', 'replace')}\n{result.content[-_READ:]}"
        cwd = request.cwd or str(self.workspace)
        if request.function.qualname == "exec_argv" and request.arguments.get("cwd"):
            cwd = request.arguments["cwd"]
        hint = hint_for(self.cell.plan, cwd, text)
        if not hint:
            return result
        detail = f"{result.detail}; {hint}" if result.detail else hint
        return msgspec.structs.replace(result, detail=detail)

    def _undo(self, result: CallResult) -> tuple[Finding, ...]:
        if self.guard is None or result.started is StartedState.NO:
            return ()
        return self.guard.after_call(result.id)

    def _record_end(self, result: CallResult, restored: tuple[Finding, ...]) -> None:
        if self.folder is None:  # nobody reads what it printed there
            result = msgspec.structs.replace(result, content="", stdout=b"", stderr=b"", images=())
        printed, returned = result.output, result.content
        between = "\n" if printed and returned and not printed.endswith("\n") else ""
        text = f"{printed}{between}{returned}".encode("utf-8", "replace")
        boundary = len(text) - len(returned.encode("utf-8", "replace"))
        file = None
        try:
            file = self._spill(result.id, text)
        except OSError as error:
            self.journal.fail(not_written(f"the output of {result.id}", error))
        self.journal.record(
            Ended,
            call=result.id,
            outcome=result.outcome,
            started=result.started,
            content=cut(text, boundary=boundary).decode("utf-8", "replace"),
            exit_status=result.exit_status,
            rung=result.rung,
            rungs_ms=result.rungs_ms,
            survivors=result.survivors,
            output_bytes=result.output_bytes,
            output_file=file,
            detail=result.detail,
            images=result.images,
            private_files=result.private_files,
            made=result.made,
            restored=restored,
            limits=result.limits,
        )

    def _spill(self, call_id: str, text: bytes) -> str | None:
        """Write output that is too long for the model and the journal to a file. Returns its path,
        relative to the run folder, or None if the output is short enough."""
        if self.folder is None or len(text) <= MODEL_BYTES:
            return None
        folder = self.folder / OUTPUT_FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"{call_id}.txt"
        try:
            path.touch(mode=0o600)
            path.write_bytes(text)
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink()  # A part of it would look like the whole.
            raise
        return str(path.relative_to(self.folder))


def _is_more(asked: object, timeout: float | None) -> bool:
    """Whether a call asked for more time than it had."""
    return isinstance(asked, int | float) and timeout is not None and timeout < asked < 1e9


def kept_output(limits: AnyLimits) -> int:
    """Bytes of a call's output that are kept."""
    return 2**62 if limits.output is None else limits.output


def _skipped(call_id: str, token: RunToken) -> CallResult:
    detail = token.reason.value if token.reason else ""
    return CallResult(call_id, Outcome.SKIPPED, StartedState.NO, detail=detail)


def _tell_started(call_id: str, on_started: Callable[[], object]) -> None:
    try:
        on_started()
    except Exception as error:
        complain(f"on_started of {call_id} raised {error!r}")


def _pass_on(call_id: str, stream: str, data: bytes, state: _InFlight) -> object:
    """Pass output on. Returns what the listener returns."""
    if state.on_output is None:
        return None
    try:
        return state.on_output(call_id, stream, data)
    except Exception as error:
        state.on_output = None  # One warning is enough: there are thousands of pieces.
        complain(f"on_output raised {error!r}; it gets no more output of {call_id}")
        return None
