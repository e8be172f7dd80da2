"""One call in the event loop: its messages, its output, its end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any, ClassVar

import msgspec
from sandbox_agent_ipc.aio import OutputReader
from sandbox_agent_ipc.board import Slot
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.channel import send_with_body
from sandbox_agent_ipc.errors import IpcError, ProtocolError
from sandbox_agent_ipc.futures import cancellation, is_future, wait
from sandbox_agent_ipc.messages import (
    Call,
    Describe,
    Described,
    FromWorker,
    Part,
    Ready,
    Result,
    ResultKind,
    Started,
)
from sandbox_agent_ipc.shortage import explained
from sandbox_agent_ipc.token import RunToken

from sandbox_agent_sandbox.capture import Capture
from sandbox_agent_sandbox.host.descriptors import give, make_channels
from sandbox_agent_sandbox.host.supervisor import Supervisor
from sandbox_agent_sandbox.host.verdict import Evidence, decide
from sandbox_agent_sandbox.host.worker_link import Moves, WorkerLink
from sandbox_agent_sandbox.limits.struck import Usage
from sandbox_agent_sandbox.outcome import CallResult, Outcome, StartedState
from sandbox_agent_sandbox.plan import ResourceLimits
from sandbox_agent_sandbox.received import Parts, bounded
from sandbox_agent_sandbox.request import CallRequest

_NO_LIMITS = ResourceLimits()

_FLOOD_PAUSE = 0.001
"""Seconds between reads of a stream beyond its limit: the pipe fills, and the writer is slowed."""


TERM_WINDOW = 0.25
"""Seconds. A SIGTERM to a call counts as a part of the run's cancellation if that follows so soon:
Jenkins and systemd terminate descendants first."""

_TERMINATED = (-signal.SIGTERM, 128 + signal.SIGTERM)
"""Exit statuses of a command that SIGTERM ended, and of a shell whose last command it ended."""


class CallState(Enum):
    """How far a call's worker has come."""

    WAITING = "waiting"
    READY = "ready"
    STARTED = "started"
    ANSWERED = "answered"
    ANSWERED_AT_ONCE = "answered, without having started a tool"


class CallIO(WorkerLink[CallState]):
    """Runs one call. Made with a claimed slot, used once, closed always.

    owner: the uid and gid, outside, that the call's tools run as. limits: of the sandbox.
    counts_user: as of `Plan`.
    """

    RECEIVES = FromWorker
    MOVES: ClassVar[Moves[CallState]] = {
        CallState.WAITING: {Ready: CallState.READY},
        CallState.READY: {
            Started: CallState.STARTED,
            Result: CallState.ANSWERED_AT_ONCE,
            Described: CallState.ANSWERED_AT_ONCE,
        },
        CallState.STARTED: {
            Part: CallState.STARTED,
            Result: CallState.ANSWERED,
            Described: CallState.ANSWERED,
        },
        CallState.ANSWERED: {},
        CallState.ANSWERED_AT_ONCE: {},
    }

    def __init__(
        self,
        request: CallRequest,
        slot: Slot,
        supervisor: Supervisor,
        owner: tuple[int, int] | None = None,
        limits: ResourceLimits = _NO_LIMITS,
        *,
        counts_user: bool = False,
    ) -> None:
        super().__init__(supervisor, CallState.WAITING)
        self._request = request
        self._owner = owner
        self._limits = limits
        self._counts_user = counts_user
        self._slot = slot
        self._stdout = Capture(request.output_limit)
        self._stderr = Capture(request.output_limit)
        self._parts = Parts(request.output_limit)
        self._answer: Result | Described | None = None
        self._answered_before_flag = False
        self._not_sent = ""
        self._is_adopted = False
        self._forget: Callable[[], None] | None = None
        self._late_reason: CancelReason | None = None

    @property
    def answer(self) -> Result | Described | None:
        """The worker's last message, once `run` has returned; None when none came."""
        return self._answer

    @property
    def never_began(self) -> bool:
        """Whether it was given a spare that died before the tool's code ran, for no reason that has
        to do with this call. Once `run` has returned: then it can be made again."""
        call_process = self._call_process
        if not self._is_adopted or call_process is None or self._answer is not None:
            return False
        unordered = self._slot.reason is None and self._late_reason is None
        began = self._state not in (CallState.WAITING, CallState.READY)
        is_over = call_process.ladder.proven and not call_process.met
        return unordered and is_over and not began and self._supervisor.failure is None

    @property
    def was_hurried(self) -> bool:
        """Whether it was to have no grace period, see `Ladder.escalate`."""
        return self._call_process is not None and self._call_process.ladder.hurried

    async def run(
        self, message: Call | Describe, token: RunToken | None, *, after: CallIO | None = None
    ) -> None:
        """Make the call's processes, hand over the message, and wait for the proven end.

        after: an attempt that never began. This one gets processes of its own.
        token: when it is cancelled, so is the call. If the awaiting task is cancelled, the call is
        stopped first, and then CancelledError is raised. `result` has the result in any case.
        """
        try:
            suits_spare = after is None and self._suits_spare(message)
            if not (suits_spare and self._adopt(message, token)):
                self._send(message)
        except OSError as error:
            self._not_sent = f"it could not be sent: {explained(error)}"
            return
        if after is not None and after.was_hurried:
            self._supervisor.escalate(self._request.id)
        shield = await self._wait(self._request.id, [self._ended], token, self._forget)
        self._collect()
        unordered = self._slot.reason is None
        if not shield.cancelled and token is not None and unordered and self._was_terminated():
            with cancellation(token) as cancelled:
                await wait([cancelled], timeout=TERM_WINDOW)
            self._late_reason = token.reason
        shield.raise_cancelled()

    def _suits_spare(self, message: Call | Describe) -> bool:
        """Whether a spare has all that this call needs."""
        special = self._request.fresh_view or self._request.separate_output
        return isinstance(message, Call) and not special

    def _adopt(self, message: Call | Describe, token: RunToken | None) -> bool:
        """Give the call to a spare. False if there is none."""
        spare = self._supervisor.spares.take()
        if spare is None:
            return False
        request = self._request
        self._is_adopted = True
        self._state = CallState.READY  # it has said so before
        call_process = self._connect(request.id, self._slot, spare.channels, ready=True)
        self._call_process = call_process
        self._supervisor.adopt(call_process, spare, request.timeout)
        try:
            for reader in self._readers:
                reader.start(self._loop)
        except OSError:
            spare.channels.inbox.close()  # it ends, without having begun
            raise
        if token is not None:
            # Before the message: the tool of a spare begins at once. So a flag that is up by then
            # is in the slot when the worker looks.
            self._forget = token.follow(partial(self._supervisor.cancel, request.id))
        self._put(message, spare.channels.inbox)
        self._supervisor.look_after(call_process)
        return True

    def _put(self, message: Call | Describe, inbox: socket.socket) -> None:
        """Put the message into the worker's inbox, which is closed."""
        request = self._request
        with inbox:
            try:
                stdin = () if request.stdin is None else (request.stdin,)
                if request.stdin is not None and self._owner is not None:
                    give(request.stdin, self._owner)
                send_with_body(inbox, message, "arguments", stdin)
            except (IpcError, OSError) as error:
                self._not_sent = f"it could not be sent: {explained(error)}"

    def _send(self, message: Call | Describe) -> None:
        """Have the worker started, with the message in its inbox. Raises OSError."""
        request = self._request
        channels = make_channels(separate_output=request.separate_output, owner=self._owner)
        self._put(message, channels.inbox)
        self._open(request.id, self._slot, channels, request.timeout, fresh_view=request.fresh_view)

    def _was_terminated(self) -> bool:
        """Whether SIGTERM ended the worker, or the command that it ran."""
        result = self._result()
        if result is None:
            return self._exit_status == -signal.SIGTERM
        return result.kind is ResultKind.CANCELLED or result.exit_status in _TERMINATED

    def _result(self) -> Result | None:
        return self._answer if isinstance(self._answer, Result) else None

    def _on_output(self, stream: str, data: bytes, reader: OutputReader) -> None:
        request, capture = self._request, self._stderr if stream == "stderr" else self._stdout
        capture.feed(data)
        if request.on_output is not None:
            answer = request.on_output(stream, data)
            if answer is False:
                reader.close()  # the writers get SIGPIPE, as when a pager is quit
            elif is_future(answer):
                reader.pause()
                waited: Any = answer
                waited.add_done_callback(lambda _: reader.resume())
            return
        if capture.total > request.output_limit:
            reader.pause()
            self._loop.call_later(_FLOOD_PAUSE, reader.resume)

    def _on_legal_message(self, message: Started | Part | Result | Described) -> None:
        if isinstance(message, Started):
            self._request.on_started()
            return
        if isinstance(message, Part):
            try:
                self._parts.add(message.data)
            except ProtocolError as error:
                self._on_closed(error)
            return
        assert self._call_process is not None
        self._answered_before_flag = not self._slot.is_cancelled
        if isinstance(message, Result):
            if message.kind is not ResultKind.UNMADE:  # whose exit status counts
                self._call_process.dismiss()
            if text := self._parts.text():
                message = msgspec.structs.replace(message, content=text + message.content)
            message = bounded(message, self._request.output_limit)
        self._answer = message
        self._supervisor.finish(self._call_process)

    def result(self) -> CallResult:
        """What became of the call, once `run` has returned or raised."""
        call_process = self._call_process
        if call_process is None:
            unsent = self._not_sent
            return CallResult(
                self._request.id, Outcome.SKIPPED, StartedState.NO, detail=unsent, made=not unsent
            )
        failure = self._not_sent or self._fault or call_process.failure
        if not failure and self._exit_status == 0:
            failure = self._torn  # there is no other explanation
        result, left_out = self._result(), self._stdout.left_out + self._stderr.left_out
        return decide(
            Evidence(
                id=self._request.id,
                sent=not self._not_sent,
                started=self._state in (CallState.STARTED, CallState.ANSWERED),
                result=result,
                # An end by SIGTERM is no end of its own, also just before the cancellation.
                finished=self._answered_before_flag and not self._was_terminated(),
                reason=self._slot.reason or self._late_reason,
                exit_status=self._exit_status,
                rung=call_process.ladder.rung,
                rungs_ms=call_process.ladder.rungs_ms(),
                survivors=call_process.survivors,
                failure=failure,
                stdout=self._stdout.data(),
                stderr=self._stderr.data(),
                output_bytes=self._stdout.total + self._stderr.total,
                left_out=left_out,
                usage=Usage(
                    self._limits,
                    self._request.timeout,
                    call_process.counts,
                    tuple(call_process.met),
                    0.0 if result is None else result.cpu_seconds,
                    self._request.output_limit,
                    left_out,
                    call_process.full,
                    self._counts_user,
                ),
            )
        )

    def close(self) -> None:
        """Give everything back. Idempotent."""
        self._close_readers()
        if self._call_process is None:
            self._slot.release(True)  # no process ever got it
