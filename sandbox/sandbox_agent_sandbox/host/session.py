"""A session: one worker that stays, and answers any number of requests at the same time.

Each request has a slot, a token, a wake pipe and a ladder of its own, as a call has; but they
share one worker, so SIGTERM and SIGKILL for one of them end the session, and the others are lost
with it (`Answer.lost`): they may be asked again, of another session.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf

from sandbox_agent_ipc.aio import MessageReader, OutputReader
from sandbox_agent_ipc.board import Slot
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.cancel_shield import CancelShield
from sandbox_agent_ipc.channel import send_datagram, send_with_body
from sandbox_agent_ipc.codec import check_protocol
from sandbox_agent_ipc.errors import ChannelClosed, IpcError, ProtocolError, TornFrame
from sandbox_agent_ipc.futures import resolve
from sandbox_agent_ipc.messages import Done, FromSession, Ready, Reply, Request, Serve, Serving
from sandbox_agent_ipc.shortage import explained
from sandbox_agent_ipc.token import RunToken

from sandbox_agent_sandbox.capture import Capture
from sandbox_agent_sandbox.errors import SandboxBroken
from sandbox_agent_sandbox.host.call_process import CallProcess
from sandbox_agent_sandbox.host.descriptors import Descriptor, make_channels, wake_pipe
from sandbox_agent_sandbox.host.supervisor import Supervisor
from sandbox_agent_sandbox.outcome import Rung, Survivor

_KEPT_OUTPUT = 16 * 1024
"""Bytes of what a session prints, of which the end explains its death."""

_FULL_PAUSE = 0.02
"""Seconds between looks at the flag of a request that the session does not take."""

_ids = itertools.count(1)

Claim = Callable[[str, RunToken | None], Awaitable[Slot | None]]
"""Waits for a slot; None when the token was cancelled meanwhile."""


@dataclass(frozen=True)
class Patience:
    """How long a request is waited for, in seconds. grace, term: as for a call. silence: until it
    is stopped because nothing is heard of it, math.inf for no limit."""

    grace: float
    term: float
    silence: float = inf


@dataclass(frozen=True)
class Answer:
    """What became of a request.

    body: the session's last word on it, None when there is none. reason: why it was told to stop,
    None when it was not. rung: the last one taken for that. lost: how the session ended without
    having answered, "" when it did answer. survivors: what of it could not be ended.
    """

    body: bytes | None
    reason: CancelReason | None = None
    rung: Rung | None = None
    lost: str = ""
    survivors: tuple[Survivor, ...] = ()


class Session:
    """See the module. Made by `Cell.session`, ended with its cell. Belongs to one event loop, but
    for `cancel` and `escalate`."""

    def __init__(
        self, supervisor: Supervisor, claim: Claim, slot_is_free: Callable[[], object]
    ) -> None:
        self._supervisor = supervisor
        self._claim = claim
        self._slot_is_free = slot_is_free
        self._loop = asyncio.get_running_loop()
        self._number = next(_ids)
        self._requests = itertools.count(1)
        self._call_process: CallProcess | None = None
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._answers: dict[str, bytes] = {}
        self._listeners: dict[str, tuple[CallProcess, float, Callable[[bytes], object]]] = {}
        self._printed = Capture(_KEPT_OUTPUT)
        self._broken = ""
        self._lost = ""

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
            raise SandboxBroken(f"the session cannot be told what to serve: {error}") from error
        self._reader = MessageReader(
            channels.outbox.detach(), FromSession, self._on_message, self._on_closed
        )
        [(_, output)] = channels.outputs
        self._output = OutputReader(output.detach(), self._printed.feed, lambda error: None)
        call_process = CallProcess(
            id=name,
            slot=slot,
            wake=channels.wake,
            status=channels.status,
            on_ended=partial(self._soon, self._on_ended),
            abort_sandbox=self._supervisor.give_up,
        )
        self._call_process = call_process
        self._supervisor.start(call_process, channels.worker, None)
        self._reader.start(self._loop)
        self._output.start(self._loop)
        try:
            limit = self._supervisor.deadlines.serve
            await asyncio.wait([self._ready], timeout=limit)
            if not self._ready.done():
                self._supervisor.abort(call_process, f"it did not come to serve in {limit:g} s")
                await asyncio.wait([self._ready])
        except asyncio.CancelledError:
            self._supervisor.abort(call_process, "nobody wants it any more")
            raise
        self._ready.result()

    @property
    def usable(self) -> bool:
        """Whether it serves."""
        return self._ready.done() and not self._lost and not self._broken

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
        wake_read, wake_write = wake_pipe()  # which may fail, so before there is a slot to lose
        slot = await self._claim(name, token)
        if slot is None:
            return Answer(None, reason=token.reason if token is not None else None)
        if self._call_process is None or not self.usable:
            slot.release(True)
            self._slot_is_free()
            return Answer(None, lost=self._lost or self._broken or "it is not open")
        ended: asyncio.Future[None] = self._loop.create_future()
        call_process = CallProcess(
            id=name,
            slot=slot,
            wake=wake_write,
            status=Descriptor(-1),
            on_ended=partial(self._soon, partial(resolve, ended)),
            abort_sandbox=self._supervisor.give_up,
        )
        silence = None if patience.silence == inf else patience.silence
        self._listeners[name] = (call_process, patience.silence, on_reply)
        self._supervisor.join(
            call_process,
            self._call_process,
            grace=patience.grace,
            term=patience.term,
            silence=silence,
        )
        on_sent(name)
        forget = _nothing
        if token is not None:
            forget = token.add_callback(
                lambda: self._supervisor.cancel(name, token.reason or CancelReason.CLOSED)
            )
        sending = self._loop.create_task(self._send(call_process, body, wake_read, ended))
        shield = CancelShield(lambda: self._supervisor.cancel(name, CancelReason.CANCELLED))
        try:
            await shield.wait([sending, ended])
            if call_process.failure:
                await asyncio.shield(self._over)  # a moment: what it said last is read then
        finally:
            forget()
            self._listeners.pop(name, None)
            call_process.close_descriptors()
            self._slot_is_free()
        sending.result()
        shield.raise_cancelled()
        return self._answer(name, call_process)

    def escalate(self, name: str) -> None:
        """A request that has been told to stop: straight to SIGTERM. For any thread."""
        self._supervisor.escalate(name)

    async def _send(
        self, call_process: CallProcess, body: bytes, wake: Descriptor, ended: asyncio.Future[None]
    ) -> None:
        """Hand the request over, waiting for a session that is slow to take it."""
        request = Request(call_process.id, call_process.slot.index, call_process.slot.word, body, 0)
        while not ended.done() and not call_process.slot.is_cancelled:
            try:
                send_with_body(self._inbox, request, "body", [wake.number])
                return
            except BlockingIOError:
                await _writable(self._loop, self._inbox.fileno(), ended)
            except (ChannelClosed, OSError):
                return  # its end is on the way
        # Told to stop before it was sent: nobody else knows of it.
        self._supervisor.leave(call_process)

    def _answer(self, name: str, call_process: CallProcess) -> Answer:
        body = self._answers.pop(name, None)
        return Answer(
            body,
            reason=call_process.slot.reason,
            rung=call_process.ladder.rung,
            lost="" if body is not None else self._lost,
            survivors=call_process.survivors,
        )

    # --- what comes of it ----------------------------------------------------------------------

    def _on_message(self, message: Ready | Serving | Reply | Done) -> None:
        if isinstance(message, Ready):
            try:
                check_protocol(message.protocol, "the session's worker")
            except ProtocolError as error:
                self._on_closed(error)
        elif isinstance(message, Serving):
            resolve(self._ready)
        else:
            listener = self._listeners.get(message.id)
            if listener is None:
                return
            call_process, silence, on_reply = listener
            if isinstance(message, Done):
                self._answers[message.id] = message.body
                self._supervisor.leave(call_process)
                return
            if silence != inf:
                self._supervisor.prolong(call_process, silence)
            on_reply(message.body)

    def _on_closed(self, error: ProtocolError | None) -> None:
        assert self._call_process is not None
        self._broken = str(error) if error is not None else "it hung up"
        if error is None or isinstance(error, TornFrame):
            # It has died, as a rule, and its init is about to tell of what.
            self._supervisor.finish(self._call_process)
        else:
            self._supervisor.abort(self._call_process, self._broken)

    def _on_ended(self) -> None:
        """The worker is proven dead, and nothing more will come."""
        call_process = self._call_process
        assert call_process is not None
        for reader in (self._reader, self._output):
            if not reader.closed:
                reader.drain()
            reader.close()
        self._inbox.close()
        self._lost = _last_words(
            call_process.exit_status(), call_process.failure, self._printed.text()
        )
        call_process.close_descriptors()
        resolve(self._over)
        if not self._ready.done():
            self._ready.set_exception(SandboxBroken(f"the session did not start: {self._lost}"))
            self._ready.exception()  # seen, also where nobody waits any more

    def _soon(self, callback: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop is closed, and with it whoever waited
            self._loop.call_soon_threadsafe(callback)


async def _writable(
    loop: asyncio.AbstractEventLoop, number: int, ended: asyncio.Future[None]
) -> None:
    """Wait until a socket takes more, or it is time to see whether that still matters."""
    free: asyncio.Future[None] = loop.create_future()
    loop.add_writer(number, resolve, free)
    try:
        await asyncio.wait([free, ended], timeout=_FULL_PAUSE, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_writer(number)


def _last_words(status: int | None, failure: str, printed: str) -> str:
    if status is None:
        how = failure or "it was killed with its processes"
    elif status < 0:
        how = f"it was ended by signal {-status}"
    else:
        how = f"it ended with exit code {status}"
    lines = printed.strip().splitlines()
    return f"{how}: {lines[-1][:500]}" if lines else how


def _nothing() -> None:
    pass
