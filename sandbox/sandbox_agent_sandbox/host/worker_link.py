"""The host's end of one worker, in the event loop: what calls and sessions share.

It opens the channels, reads messages and output, waits, and reads what is left after the end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from sandbox_agent_ipc.aio import MessageReader, OutputReader
from sandbox_agent_ipc.board import Slot
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.cancel_shield import CancelShield
from sandbox_agent_ipc.codec import check_protocol
from sandbox_agent_ipc.errors import ProtocolError, TornFrame
from sandbox_agent_ipc.futures import call_soon, resolve, running_loop
from sandbox_agent_ipc.messages import Ready
from sandbox_agent_ipc.token import RunToken

from sandbox_agent_sandbox.host.call_process import CallProcess
from sandbox_agent_sandbox.host.descriptors import Channels, Descriptor
from sandbox_agent_sandbox.host.spawner.explain import why_failed
from sandbox_agent_sandbox.host.supervisor import Supervisor

if TYPE_CHECKING:
    import asyncio

S = TypeVar("S")

Moves = Mapping[S, Mapping[type, S]]
"""For each state the messages and events that are legal in it, and the state that follows."""


class HungUp:
    """The event that the worker sends no more messages."""


class Ended:
    """The event that the worker is proven dead, or is called a survivor."""


class WorkerLink(ABC, Generic[S]):
    """One worker and the state of the conversation with it. Belongs to one event loop.

    RECEIVES: the union of messages that the worker may send. MOVES: the legal ones in each state.
    A message that is not legal breaks the protocol, and the worker is killed; an event that is not
    legal is a bug, and raises.
    """

    RECEIVES: ClassVar[Any]
    MOVES: ClassVar[Moves[Any]]

    def __init__(self, supervisor: Supervisor, state: S) -> None:
        self._supervisor = supervisor
        self._state = state
        self._loop = running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._call_process: CallProcess | None = None
        self._readers: list[MessageReader | OutputReader] = []
        self._exit_status: int | None = None
        self._fault = ""
        self._torn = ""

    def _open(
        self,
        name: str,
        slot: Slot,
        channels: Channels,
        timeout: float | None,
        *,
        fresh_view: bool = False,
    ) -> None:
        """Have the worker started, and read from it. timeout: seconds from now. fresh_view: see
        `CallRequest`.

        Put its first message into the inbox before: the worker then finds it there.
        """
        self._call_process = self._connect(name, slot, channels, fresh_view=fresh_view)
        self._supervisor.start(self._call_process, channels.worker, timeout)
        for reader in self._readers:
            reader.start(self._loop)

    def _connect(
        self,
        name: str,
        slot: Slot,
        channels: Channels,
        *,
        fresh_view: bool = False,
        ready: bool = False,
    ) -> CallProcess:
        """Make the readers of a worker's channels, and the record of its process. ready: what is
        read does not block already."""
        outbox = channels.outbox.detach()
        self._readers.append(
            MessageReader(outbox, self.RECEIVES, self._on_message, self._on_closed, ready=ready)
        )
        for stream, read in channels.outputs:
            self._readers.append(self._output_reader(stream, read, ready=ready))
        return CallProcess(
            id=name,
            slot=slot,
            wake=channels.wake,
            status=channels.status,
            on_ended=partial(call_soon, self._loop, self._on_ended),
            abort_sandbox=self._supervisor.give_up,
            fresh_view=fresh_view,
        )

    async def _wait(
        self,
        call_id: str,
        futures: Iterable[asyncio.Future[Any]],
        token: RunToken | None,
        forget: Callable[[], None] | None = None,
    ) -> CancelShield:
        """Wait until all futures are done. forget: undoes that the token is followed already.

        Meanwhile the call is cancelled when the token is, or when the waiting task is. The task's
        cancellation is not raised here; the caller does that with what this returns.
        """
        cancel = partial(self._supervisor.cancel, call_id)
        if forget is None:
            forget = _nothing if token is None else token.follow(cancel)
        shield = CancelShield(partial(cancel, CancelReason.CANCELLED))
        try:
            await shield.wait(futures)
        finally:
            forget()
        return shield

    def _collect(self) -> None:
        """Read what is left. Every writer is dead: what is in the pipes is all there will be."""
        assert self._call_process is not None
        for reader in self._readers:
            if not reader.closed:
                reader.drain()
        end = self._call_process.end
        self._exit_status = end.status
        if end.step is not None and not self._call_process.failure:
            self._call_process.failure = why_failed(end.step, "", end.number)

    def _close_readers(self) -> None:
        for reader in self._readers:
            reader.close()

    def _output_reader(self, stream: str, read: Descriptor, *, ready: bool = False) -> OutputReader:
        def on_data(data: bytes) -> None:
            self._on_output(stream, data, reader)

        reader = OutputReader(read.detach(), on_data, lambda error: None, ready=ready)
        return reader

    @abstractmethod
    def _on_output(self, stream: str, data: bytes, reader: OutputReader) -> None:
        """The worker, or what it started, printed something. stream: "stdout" or "stderr"."""

    @abstractmethod
    def _on_legal_message(self, message: Any) -> None:
        """A message has come, and the state has moved. Not called with Ready."""

    def _on_message(self, message: Any) -> None:
        if self._fault:
            return  # what follows a breach of the protocol is no message of a worker of ours
        state = self.MOVES[self._state].get(type(message))
        if state is None:
            self._on_closed(ProtocolError(f"a {type(message).__name__} message out of turn"))
            return
        self._state = state
        if not isinstance(message, Ready):
            self._on_legal_message(message)
            return
        try:
            check_protocol(message.protocol, "the worker")
        except ProtocolError as error:
            self._on_closed(error)

    def _move(self, event: type[HungUp | Ended]) -> None:
        state = self.MOVES[self._state].get(event)
        if state is None:
            raise AssertionError(f"no move from {self._state} at {event.__name__}")
        self._state = state

    def _on_closed(self, error: ProtocolError | None) -> None:
        assert self._call_process is not None
        if error is None:
            # Nothing more will come of this worker, even where something else in the namespace
            # holds out: a SIGTERM from outside makes its init wait for all the others.
            self._supervisor.finish(self._call_process)
            return
        why = f"its worker broke the protocol: {error}"
        if isinstance(error, TornFrame):
            # As a rule the worker has died: waitpid and the ladder will say how, and on which rung.
            self._torn = why
            return
        self._fault = self._fault or why
        self._supervisor.abort(self._call_process, self._fault)

    def _on_ended(self) -> None:
        """The worker's end is proven, or given up. Called once."""
        resolve(self._ended)


def _nothing() -> None:
    pass
