"""One call's conversation with its worker, in the event loop: channels, messages, output, end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import msgspec
from sandbox_agent_ipc.aio import MessageReader, OutputReader
from sandbox_agent_ipc.board import Slot
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.cancel_shield import CancelShield
from sandbox_agent_ipc.channel import send_with_body
from sandbox_agent_ipc.codec import check_protocol
from sandbox_agent_ipc.errors import IpcError, ProtocolError, TornFrame
from sandbox_agent_ipc.futures import resolve
from sandbox_agent_ipc.messages import (
    Call,
    Describe,
    Described,
    FromWorker,
    Ready,
    Result,
    ResultKind,
    Started,
)
from sandbox_agent_ipc.shortage import explained
from sandbox_agent_ipc.token import RunToken

from sandbox_agent_sandbox.capture import Capture
from sandbox_agent_sandbox.host.call_process import CallProcess
from sandbox_agent_sandbox.host.descriptors import Descriptor, make_channels
from sandbox_agent_sandbox.host.request import CallRequest
from sandbox_agent_sandbox.host.supervisor import Supervisor
from sandbox_agent_sandbox.host.verdict import Evidence, decide
from sandbox_agent_sandbox.images import select_images
from sandbox_agent_sandbox.outcome import CallResult, Outcome, StartedState

_FLOOD_PAUSE = 0.001
"""Seconds between reads of a stream that is past its limit: the pipe fills and slows the writer."""


TERM_WINDOW = 0.25
"""Seconds in which a SIGTERM at a call and the order to stop the run are one event: Jenkins and
systemd terminate descendants first."""

_TERMINATED = (-signal.SIGTERM, 128 + signal.SIGTERM)
"""Exit statuses of a command that SIGTERM ended, and of a shell whose last command it ended."""


class CallIO:
    """Runs one call. Made with a claimed slot, used once, closed always."""

    def __init__(self, request: CallRequest, slot: Slot, supervisor: Supervisor) -> None:
        self._request = request
        self._slot = slot
        self._supervisor = supervisor
        self._call_process: CallProcess | None = None
        self._readers: list[MessageReader | OutputReader] = []
        self._capture = Capture(request.output_limit)
        self._result: Result | None = None
        self._finished = False
        self._ready = False
        self._started = False
        self._exit_status: int | None = None
        self._sent = False
        self._failure = ""
        self._torn = ""
        self._late_reason: CancelReason | None = None
        self.answer: Described | None = None

    async def run(self, message: Call | Describe, token: RunToken | None) -> None:
        """Make the call's processes, hand over the message, and wait for the proven end."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def on_ended() -> None:
            with suppress(RuntimeError):  # the loop was closed under us
                loop.call_soon_threadsafe(resolve, ended)

        try:
            call_process = self._open_channels(loop, message, on_ended)
        except OSError as error:
            self._failure = f"it could not be sent: {explained(error)}"
            return
        forget = None
        if token is not None:
            forget = token.add_callback(
                lambda: self._supervisor.cancel(
                    call_process.id, token.reason or CancelReason.CLOSED
                )
            )
        shield = CancelShield(
            lambda: self._supervisor.cancel(call_process.id, CancelReason.CANCELLED)
        )
        try:
            await shield.wait([ended])
        finally:
            if forget is not None:
                forget()
        # Every writer is dead: what is in the pipes is all there will ever be.
        for reader in self._readers:
            if not reader.closed:
                reader.drain()
        self._exit_status = call_process.exit_status()
        call_process.close_descriptors()
        unordered = self._slot.reason is None
        if not shield.cancelled and token is not None and unordered and self._was_terminated():
            self._late_reason = await _cancelled_within(token, TERM_WINDOW)
        shield.raise_cancelled()

    def _was_terminated(self) -> bool:
        """Whether it ended as from a SIGTERM, the worker itself or the command that it ran."""
        result = self._result
        if result is None:
            return self._exit_status == -signal.SIGTERM
        return result.kind is ResultKind.CANCELLED or result.exit_status in _TERMINATED

    def _open_channels(
        self,
        loop: asyncio.AbstractEventLoop,
        message: Call | Describe,
        on_ended: Callable[[], None],
    ) -> CallProcess:
        request = self._request
        channels = make_channels(separate_output=request.separate_output)
        with channels.inbox:
            try:
                # Queued before its reader exists: the worker finds it there.
                send_with_body(channels.inbox, message, "arguments")
                self._sent = True
            except (IpcError, OSError) as error:
                said = explained(error) if isinstance(error, OSError) else str(error)
                self._failure = f"it could not be sent: {said}"
        self._readers.append(
            MessageReader(channels.outbox.detach(), FromWorker, self._on_message, self._on_closed)
        )
        for name, read in channels.outputs:
            self._readers.append(self._output_reader(loop, name, read))
        call_process = CallProcess(
            id=request.id,
            slot=self._slot,
            wake=channels.wake,
            status=channels.status,
            on_ended=on_ended,
            abort_sandbox=self._supervisor.give_up,
        )
        self._call_process = call_process
        self._supervisor.start(call_process, channels.worker, request.timeout)
        for reader in self._readers:
            reader.start(loop)
        return call_process

    def _output_reader(
        self, loop: asyncio.AbstractEventLoop, name: str, read: Descriptor
    ) -> OutputReader:
        request = self._request

        def on_data(data: bytes) -> None:
            if request.on_output is not None:
                self._capture.total += len(data)
                if request.on_output(name, data) is False:
                    reader.close()  # as a pager that was quit: the writers get SIGPIPE
                return
            self._capture.feed(data)
            if self._capture.total > request.output_limit:
                reader.pause()
                loop.call_later(_FLOOD_PAUSE, reader.resume)

        reader = OutputReader(read.detach(), on_data, lambda error: None)
        return reader

    def _on_message(self, message: Ready | Started | Result | Described) -> None:
        call_process = self._call_process
        assert call_process is not None
        over = self._result is not None or self.answer is not None
        if isinstance(message, Ready) and not self._ready:
            self._ready = True
            try:
                check_protocol(message.protocol, "the worker")
            except ProtocolError as error:
                self._on_closed(error)
        elif (
            over
            or not self._ready
            or isinstance(message, Ready)
            or (isinstance(message, Started) and self._started)
        ):
            self._on_closed(ProtocolError(f"a {type(message).__name__} message out of turn"))
        elif isinstance(message, Started):
            self._started = True
            self._request.on_started()
        else:
            if isinstance(message, Result):
                self._result = _bounded(message, self._request.output_limit)
                self._finished = not self._slot.is_cancelled
            else:
                self.answer = message
            self._supervisor.finish(call_process)

    def _on_closed(self, error: ProtocolError | None) -> None:
        if self._call_process is None:
            return
        if error is None:
            # Nothing more will come of this worker, even where something else in the namespace
            # holds out: a SIGTERM from outside makes its init wait for all the others.
            self._supervisor.finish(self._call_process)
            return
        why = f"its worker broke the protocol: {error}"
        if isinstance(error, TornFrame):
            # It has died, as a rule: by what, and on which rung, waitpid and the ladder will say.
            self._torn = why
            return
        self._failure = self._failure or why
        self._supervisor.abort(self._call_process, self._failure)

    def result(self) -> CallResult:
        """What became of the call, once `run` has returned or raised."""
        call_process = self._call_process
        if call_process is None:
            return CallResult(
                self._request.id, Outcome.SKIPPED, StartedState.NO, detail=self._failure
            )
        failure = self._failure or call_process.failure
        if not failure and self._exit_status == 0:
            failure = self._torn  # nothing else explains it
        return decide(
            Evidence(
                id=self._request.id,
                sent=self._sent,
                started=self._started,
                result=self._result,
                # What a SIGTERM did is no end of its own, ordered or just before the order.
                finished=self._finished and not self._was_terminated(),
                reason=self._slot.reason or self._late_reason,
                exit_status=self._exit_status,
                rung=call_process.ladder.rung,
                rungs_ms=call_process.ladder.rungs_ms(),
                survivors=call_process.survivors,
                failure=failure,
                output=self._capture.text() if self._request.on_output is None else "",
                output_bytes=self._capture.total,
            )
        )

    def close(self) -> None:
        """Give everything back. Idempotent."""
        for reader in self._readers:
            reader.close()
        if self._call_process is None:
            self._slot.release(True)  # nobody was ever told of it


async def _cancelled_within(token: RunToken, seconds: float) -> CancelReason | None:
    """Wait for the token, at most so long. Returns the reason, or None."""
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()
    forget = token.add_callback(partial(loop.call_soon_threadsafe, resolve, woken))
    try:
        await asyncio.wait([woken], timeout=seconds)
    finally:
        forget()
    return token.reason


def _bounded(result: Result, limit: int) -> Result:
    """A worker cuts its own result; one that a tool has taken over need not."""
    if result.images:
        result = msgspec.structs.replace(result, images=select_images(result.images)[0])
    data = result.content.encode("utf-8", "replace")
    if len(data) <= 2 * limit:  # with its note on what was left out it is a little longer
        return result
    capture = Capture(limit)
    capture.feed(data)
    return msgspec.structs.replace(result, content=capture.text())
