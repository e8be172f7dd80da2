"""One call, from the decision to make it to its one end in the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from sandbox_agent_ipc.messages import FunctionRef
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.capture import Capture
from sandbox_agent_sandbox.errors import SandboxError
from sandbox_agent_sandbox.outcome import CallResult, Outcome, StartedState

from sandbox_agent.embedding.warn import complain
from sandbox_agent.journal import folder as run_folder
from sandbox_agent.journal.events import Dispatching, Ended, Started
from sandbox_agent.run.run_journal import RunJournal
from sandbox_agent.run.truncate import MODEL_BYTES, cut

if TYPE_CHECKING:
    from sandbox_agent_sandbox.host.cell import Cell

OnOutput = Callable[[str, str, bytes], object]
"""Called with call id, "stdout" or "stderr", and what the call printed, as it comes. Returning
False (and nothing else) closes that stream: what goes on writing to it gets SIGPIPE."""


@dataclass(frozen=True)
class Request:
    """A call to be made. command: of a `verify` command, else None. timeout: seconds."""

    id: str
    tool: str
    function: FunctionRef
    arguments: Mapping[str, Any]
    timeout: float | None
    command: str | None = None


class _InFlight:
    """What is known of a call while it is going. output: kept where somebody listens to it."""

    def __init__(self, output_limit: int) -> None:
        self.output = Capture(output_limit)
        self.started = False
        self.listened_to = True


@dataclass(frozen=True)
class Caller:
    """Makes calls in one sandbox and records them.

    folder: the run's. output_limit: bytes of a call's output that are kept. time_limit: seconds
    that any call may take. on_output: hears what calls print as it comes. separate_output: keeps
    standard error apart.
    """

    cell: Cell
    journal: RunJournal
    folder: Path
    workspace: Path
    output_limit: int
    time_limit: float | None
    on_output: OnOutput | None
    separate_output: bool

    async def call(self, request: Request, token: RunToken) -> Ended | None:
        """Make one call. Its end has been recorded, and its processes are gone, when this returns.

        Returns the end; None when it could not be recorded, or when there is none to record: a
        `verify` command, which nobody has asked for until it is dispatched.
        """
        if token.is_cancelled:
            return None if request.command is not None else self.skip(request.id, token)
        dispatched = self.journal.record(
            Dispatching,
            call=request.id,
            tool=request.tool,
            command=request.command,
            timeout=request.timeout,
        )
        # Looked at again: whoever listens to that very event may have cancelled.
        if dispatched is None or token.is_cancelled:
            return self.skip(request.id, token)
        state = _InFlight(self.output_limit)
        return self._end(await self._dispatch(request, token, state), state.output)

    def skip(self, call_id: str, token: RunToken) -> Ended | None:
        """Record the end of a call that was never sent."""
        return self.journal.record(
            Ended,
            call=call_id,
            outcome=Outcome.SKIPPED,
            started=StartedState.NO,
            detail=token.reason.value if token.reason else "",
        )

    def refuse(self, call_id: str, why: str) -> Ended | None:
        """Record the end of a call that makes no sense, as an error that the model can mend."""
        return self.journal.record(
            Ended, call=call_id, outcome=Outcome.ERROR, started=StartedState.NO, content=why
        )

    async def _dispatch(self, request: Request, token: RunToken, state: _InFlight) -> CallResult:
        from sandbox_agent_sandbox.host.cell import CallRequest

        def on_started() -> None:
            state.started = True
            self.journal.record(Started, call=request.id)

        def on_output(stream: str, data: bytes) -> bool:
            state.output.feed(data)
            return self._tell(request.id, stream, data, state)

        try:
            return await self.cell.call(
                CallRequest(
                    id=request.id,
                    function=request.function,
                    arguments=msgspec.json.encode(request.arguments),
                    cwd=str(self.workspace),
                    timeout=request.timeout,
                    output_limit=self.output_limit,
                    on_started=on_started,
                    # Without a listener the cell keeps the output itself, and slows floods.
                    on_output=None if self.on_output is None else on_output,
                    separate_output=self.separate_output,
                ),
                token=token,
            )
        except asyncio.CancelledError:
            # The loop is being shut down and cancels every task it finds, this one too. The cell
            # stopped the call before it let this through; which rung it took is all that is lost.
            if state.started:
                return CallResult(request.id, Outcome.CANCELLED, StartedState.YES)
            return CallResult(request.id, Outcome.SKIPPED, StartedState.NO)
        except SandboxError as error:
            self.journal.fail(error)
            why = str(error)
            if state.started:
                return CallResult(request.id, Outcome.CRASHED, StartedState.YES, detail=why)
            return CallResult(request.id, Outcome.UNKNOWN, StartedState.MAYBE, detail=why)

    def _tell(self, call_id: str, stream: str, data: bytes, state: _InFlight) -> bool:
        """Pass output on. False when the listener wants the stream to be closed."""
        if self.on_output is None or not state.listened_to:
            return True
        try:
            return self.on_output(call_id, stream, data) is not False
        except Exception as error:
            state.listened_to = False  # Once is enough: output comes in thousands of pieces.
            complain(f"on_output raised {error!r}; it hears no more of {call_id}")
            return True

    def _end(self, result: CallResult, output: Capture) -> Ended | None:
        printed, returned = output.text() or result.output, result.content
        between = "\n" if printed and returned and not printed.endswith("\n") else ""
        text = f"{printed}{between}{returned}".encode("utf-8", "replace")
        file = None
        try:
            file = self._spill(result.id, text)
        except OSError as error:
            self.journal.fail(error, f"a call's output cannot be written: {error}")
        return self.journal.record(
            Ended,
            call=result.id,
            outcome=result.outcome,
            started=result.started,
            content=cut(text).decode("utf-8", "replace"),
            exit_status=result.exit_status,
            rung=result.rung,
            rungs_ms=result.rungs_ms,
            survivors=result.survivors,
            output_bytes=max(result.output_bytes, output.total),
            output_file=file,
            detail=result.detail,
            images=result.images,
        )

    def _spill(self, call_id: str, text: bytes) -> str | None:
        """Keep what is too long for the model, and for the journal. Relative to the run folder."""
        if len(text) <= MODEL_BYTES:
            return None
        folder = self.folder / run_folder.OUTPUT
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"{call_id}.txt"
        path.touch(mode=0o600)
        path.write_bytes(text)
        return str(path.relative_to(self.folder))
