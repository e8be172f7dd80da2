"""A session: one worker that answers any number of requests at the same time.

Each request has a slot, a token, a wake pipe and a ladder of its own, as a call has. But requests
share one worker: SIGTERM and SIGKILL for one of them end the session, and the other requests are
lost (`Answer.lost`). They may be sent again, to another session.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from math import inf
from typing import ClassVar

import msgspec
from sandbox_agent_ipc.aio import OutputReader
from sandbox_agent_ipc.board import Slot
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.channel import send_datagram, send_with_body
from sandbox_agent_ipc.errors import ChannelClosed, IpcError, ProtocolError, TornFrame
from sandbox_agent_ipc.futures import call_soon, resolve
from sandbox_agent_ipc.messages import Done, FromSession, Ready, Reply, Request, Serve, Serving
from sandbox_agent_ipc.shortage import explained
from sandbox_agent_ipc.token import RunToken

from sandbox_agent_sandbox.capture import Capture
from sandbox_agent_sandbox.errors import SandboxBroken, SandboxUnavailable
from sandbox_agent_sandbox.host.call_process import CallProcess
from sandbox_agent_sandbox.host.descriptors import Descriptor, make_channels, wake_pipe
from sandbox_agent_sandbox.host.supervisor import Supervisor
from sandbox_agent_sandbox.host.worker_link import Ended, HungUp, Moves, WorkerLink
from sandbox_agent_sandbox.outcome import Rung, Survivor

_KEPT_OUTPUT = 16 * 1024
"""Bytes of a session's output that are kept. Its last line explains the session's death."""

_FULL_PAUSE = 0.02
"""Seconds between looks at the flag of a request while the session's socket is full."""

_ids = itertools.count(1)

Claim = Callable[[str, RunToken | None], Awaitable[Slot | None]]
"""Waits for a slot; None when the token was cancelled meanwhile."""


class Patience(msgspec.Struct, frozen=True):
    """Time limits of a request, in seconds.

    grace, term: as for a call. silence: the request is cancelled after so long without a piece of
    an answer; math.inf for no limit.
    """

    grace: float
    term: float
    silence: float = inf


class Answer(msgspec.Struct, frozen=True):
    """What became of a request.

    body: of the session's last message about it, None when none came. reason: why it was cancelled,
    None when it was not. rung: the last one taken for that. lost: how the session ended without an
    answer, "" when it answered. survivors: processes that could not be ended.
    """

    body: bytes | None
    reason: CancelReason | None = None
    rung: Rung | None = None
    lost: str = ""
    survivors: tuple[Survivor, ...] = ()


class SessionState(Enum):
    """How far a session's worker has come."""

    STARTING = "starting"
    READY = "ready"
    SERVING = "serving"
    ENDING = "ending"
    ENDED = "ended"


@dataclass(eq=False)
class _Pending:
    """A request that the session has not answered. settled: when it has, or the request is over."""

    call_process: CallProcess
    settled: asyncio.Future[None]
    silence: float
    on_reply: Callable[[bytes], object]
    body: bytes | None = None


class Session(WorkerLink[SessionState]):
    """See the module. `Cell.session` makes it, and it ends with its cell. It belongs to one event
    loop; any thread may call `escalate`."""

    RECEIVES = FromSession
    MOVES: ClassVar[Moves[SessionState]] = {
        SessionState.STARTING: {
            Ready: SessionState.READY,
            HungUp: SessionState.ENDING,
            Ended: SessionState.ENDED,
        },
        SessionState.READY: {
            Serving: SessionState.SERVING,
            HungUp: SessionState.ENDING,
            Ended: SessionState.ENDED,
        },
        SessionState.SERVING: {
            Reply: SessionState.SERVING,
            Done: SessionState.SERVING,
            HungUp: SessionState.ENDING,
            Ended: SessionState.ENDED,
        },
        SessionState.ENDING: {HungUp: SessionState.ENDING, Ended: SessionState.ENDED},
        SessionState.ENDED: {},
    }

    def __init__(
        self, supervisor: Supervisor, claim: Claim, slot_is_free: Callable[[], object]
    ) -> None:
        super().__init__(supervisor, SessionState.STARTING)
        self._claim = claim
        self._slot_is_free = slot_is_free
        self._number = next(_ids)
        self._requests = itertools.count(1)
        self._serving: asyncio.Future[None] = self._loop.create_future()
        self._pending: dict[str, _Pending] = {}
        self._printed = Capture(_KEPT_OUTPUT)
        self._why_ended = ""

    async def open(self, message: Serve) -> None:
        """Start the worker; return when it serves. Raises SandboxBroken when it does not."""
        name = f"session-{self._number}"
        try:
            channels = make_channels()
        except OSError as error:
            raise SandboxBroken(f"the session cannot be started: {explained(error)}") from error
        slot = await self._claim(name, None)
        assert slot is not None
        self._inbox = channels.inbox
        self._inbox.setblocking(False)
        try:
            send_datagram(self._inbox, message)
        except (IpcError, OSError) as error:
            slot.release(True)
            raise SandboxBroken(f"the session cannot be served: {explained(error)}") from error
        self._open(name, slot, channels, None)
        assert self._call_process is not None
        limit = self._supervisor.deadlines.serve
        try:
            await asyncio.wait([self._serving], timeout=limit)
            if not self._serving.done():
                why = f"it did not come to serve in {limit:g} s"
                self._supervisor.abort(self._call_process, why)
                await asyncio.wait([self._serving])
        except asyncio.CancelledError:
            self._supervisor.abort(self._call_process, "its start was cancelled")
            raise
        self._serving.result()

    @property
    def usable(self) -> bool:
        """Whether it serves."""
        return self._state is SessionState.SERVING

    async def ask(
        self,
        body: bytes,
        patience: Patience,
        *,
        token: RunToken | None = None,
        on_reply: Callable[[bytes], object] = lambda body: None,
        on_sent: Callable[[str], object] = lambda id: None,
    ) -> Answer:
        """Send a request and wait for its end.

        token: when it is cancelled, so is the request. If the awaiting task is cancelled, the
        request is stopped first, and then CancelledError is raised. on_reply: called with each
        piece of the answer. on_sent: called with the request's id, for `escalate`.
        """
        name = f"session-{self._number}-{next(self._requests)}"
        try:
            # Before the slot is claimed, since it may fail.
            wake_read, wake_write = wake_pipe()
        except OSError as error:
            raise SandboxUnavailable(f"no request can be sent: {explained(error)}") from error
        slot = await self._claim(name, token)
        if slot is None:
            return Answer(None, reason=token.reason if token is not None else None)
        if self._call_process is None or not self.usable:
            slot.release(True)
            self._slot_is_free()
            return Answer(None, lost=self._why_ended or "it is not open")
        settled: asyncio.Future[None] = self._loop.create_future()
        ended: asyncio.Future[None] = self._loop.create_future()
        request = CallProcess(
            id=name,
            slot=slot,
            wake=wake_write,
            status=Descriptor(-1),
            on_ended=partial(self._is_over, slot, settled, ended),
            abort_sandbox=self._supervisor.give_up,
        )
        pending = self._pending[name] = _Pending(request, settled, patience.silence, on_reply)
        self._supervisor.join(
            request,
            self._call_process,
            grace=patience.grace,
            term=patience.term,
            silence=None if patience.silence == inf else patience.silence,
        )
        on_sent(name)
        try:
            sending = self._begin_to_send(request, body, wake_read, ended)
            shield = await self._wait(name, [settled, *sending], token)
            reason = slot.reason
            if reason is not None and request.ladder.ended_at is None:
                await asyncio.shield(ended)  # a moment: the ladder has taken its rung then
            if request.failure:
                await asyncio.shield(self._ended)  # a moment: its last messages are read then
        finally:
            del self._pending[name]
            request.close_descriptors()
        for one in sending:
            one.result()
        shield.raise_cancelled()
        ended_first = pending.body is None and self._state is SessionState.ENDED
        return Answer(
            pending.body,
            reason=reason,
            rung=None if reason is None else request.ladder.rung,
            lost=self._why_ended if ended_first else "",
            survivors=request.survivors,
        )

    def _is_over(
        self, slot: Slot, settled: asyncio.Future[None], ended: asyncio.Future[None]
    ) -> None:
        """In the supervisor's thread: a request is over, and its slot free. Nobody waits for that
        if it was answered and not cancelled."""
        self._slot_is_free()
        if slot.is_cancelled or not settled.done():
            call_soon(self._loop, resolve, settled)
            call_soon(self._loop, resolve, ended)

    def escalate(self, name: str) -> None:
        """Move a request to SIGTERM, as soon as it is flagged. For any thread."""
        self._supervisor.escalate(name)

    def _begin_to_send(
        self, request: CallProcess, body: bytes, wake: Descriptor, ended: asyncio.Future[None]
    ) -> list[asyncio.Task[None]]:
        """Hand the request over, or make a task that does it once the session takes it."""
        slot = request.slot
        message = Request(request.id, slot.index, slot.word, body)
        if not slot.is_cancelled and self._send(request, message, wake):
            return []
        return [self._loop.create_task(self._send_later(request, message, wake, ended))]

    def _send(self, request: CallProcess, message: Request, wake: Descriptor) -> bool:
        """Hand the request over. False if the session is slow to take it. Raises ProtocolError."""
        try:
            send_with_body(self._inbox, message, "body", [wake.number])
        except BlockingIOError:
            return False
        except ProtocolError:
            self._supervisor.leave(request)  # no answer will come
            raise
        except (ChannelClosed, OSError):
            pass  # the session has ended, and ends the request
        return True

    async def _send_later(
        self, request: CallProcess, message: Request, wake: Descriptor, ended: asyncio.Future[None]
    ) -> None:
        """Hand the request over once the session takes it, unless it is cancelled before."""
        while not ended.done() and not request.slot.is_cancelled:
            if self._send(request, message, wake):
                return
            await _writable(self._loop, self._inbox.fileno(), ended)
        # It was cancelled before it was sent, so the session will not answer it.
        self._supervisor.leave(request)

    # --- messages and the end ------------------------------------------------------------------

    def _on_output(self, stream: str, data: bytes, reader: OutputReader) -> None:
        self._printed.feed(data)

    def _on_legal_message(self, message: Serving | Reply | Done) -> None:
        if isinstance(message, Serving):
            resolve(self._serving)
            return
        pending = self._pending.get(message.id)
        if pending is None:
            return
        if isinstance(message, Done):
            pending.body = message.body
            self._supervisor.leave(pending.call_process)
            resolve(pending.settled)  # the supervisor's thread does its part beside what follows
            return
        if pending.silence != inf:
            self._supervisor.prolong(pending.call_process, pending.silence)
        pending.on_reply(message.body)

    def _on_closed(self, error: ProtocolError | None) -> None:
        self._move(HungUp)
        self._why_ended = str(error) if error is not None else "it hung up"
        super()._on_closed(error)
        if isinstance(error, TornFrame):
            # As a rule it has died, and its init is about to say of what.
            assert self._call_process is not None
            self._supervisor.finish(self._call_process)

    def _on_ended(self) -> None:
        self._collect()
        self._close_readers()
        self._inbox.close()
        self._move(Ended)
        assert self._call_process is not None
        failure = self._call_process.failure
        self._why_ended = _how_it_ended(self._exit_status, failure, self._printed.text())
        super()._on_ended()
        if not self._serving.done():
            why = f"the session did not start: {self._why_ended}"
            self._serving.set_exception(SandboxBroken(why))
            self._serving.exception()  # so that asyncio does not report it where nothing waits


async def _writable(
    loop: asyncio.AbstractEventLoop, number: int, ended: asyncio.Future[None]
) -> None:
    """Wait until a socket takes more, `ended` is done, or a pause is over."""
    free: asyncio.Future[None] = loop.create_future()
    loop.add_writer(number, resolve, free)
    try:
        await asyncio.wait([free, ended], timeout=_FULL_PAUSE, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_writer(number)


def _how_it_ended(status: int | None, failure: str, printed: str) -> str:
    if status is None:
        how = failure or "it was killed with its processes"
    elif status < 0:
        how = f"it was ended by signal {-status}"
    else:
        how = f"it ended with exit code {status}"
    lines = printed.strip().splitlines()
    return f"{how}: {lines[-1][:500]}" if lines else how
