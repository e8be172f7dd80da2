"""The host's side of the process that asks providers: started early, replaced when it dies.

A thread with an event loop of its own holds its sandbox and session, because conversations live in
loops that come and go, and because an embedder's blocked loop must not hold up a stream.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
from sandbox_agent_ipc.futures import resolve
from sandbox_agent_ipc.messages import FunctionRef
from sandbox_agent_ipc.model_messages import Answer, Ask, Failure, FailureKind, FromModel, Piece
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.errors import SandboxBroken, SandboxError
from sandbox_agent_sandbox.host.deadlines import DEFAULT, Deadlines
from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.outcome import Survivor

from sandbox_agent.config.settings import Interrupt
from sandbox_agent.models.process.environment import environment, make_model_plan

if TYPE_CHECKING:
    from sandbox_agent_sandbox.host.cell import Cell
    from sandbox_agent_sandbox.host.session import Session

ATTEMPTS = 3
"""Processes that one request may be caught in, before it counts as their killer."""

ESCALATION = 0.1
"""Seconds between an order to hurry and SIGTERM for a process that others share."""

SILENCE_MARGIN = 5.0
"""Seconds beyond the time that a provider may be silent: the process would have told of that."""

_FUNCTION = FunctionRef("sandbox_agent.models.process.inside.serve", "serve")

Result = Answer | Failure | None
"""None: it was told to stop."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(FromModel).decode


class Asking:
    """A request on its way, with what it was made from (see `ModelProcess.ask`). result: done when
    nothing of it goes on any more."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ask: Ask,
        interrupt: Interrupt,
        token: RunToken,
        on_piece: Callable[[Piece], object],
    ) -> None:
        self._loop = loop
        self.what = ask
        self.interrupt = interrupt
        self.token = token
        self.on_piece = on_piece
        self.result: Future[Result] = Future()
        self._session: Session | None = None
        self._name = ""

    def sent(self, session: Session, name: str) -> None:
        """It is with this session, under this name."""
        self._name = name
        self._session = session

    def escalate(self) -> None:
        """If it has been told to stop: a moment, and then no more grace. For any thread and signal
        handlers.

        The moment is for the others in its process, which takes seconds to be replaced: nearly
        always it has been heeded long before.
        """
        session = self._session
        if session is not None:
            with suppress(RuntimeError):  # the loop is closed: the process is gone
                self._loop.call_soon_threadsafe(
                    self._loop.call_later, ESCALATION, session.escalate, self._name
                )


class ModelProcess:
    """See the module. Any thread may call its methods.

    environ: where the keys are. deadlines: of its sandbox. silence_margin: see SILENCE_MARGIN.
    """

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        *,
        deadlines: Deadlines = DEFAULT,
        silence_margin: float = SILENCE_MARGIN,
    ) -> None:
        self._environ = dict(os.environ if environ is None else environ)
        self._deadlines = deadlines
        self._silence_margin = silence_margin
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="sandbox-agent models", daemon=True)
        self._cell: Cell | None = None
        self._opening: asyncio.Task[Session] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = False
        self._closed = False
        self._survivors: tuple[Survivor, ...] = ()

    def start(self) -> None:
        """Start it, if that has not been done, without waiting. It takes seconds to be ready.

        From here on the program that calls this is not dumpable (no core files, no debugger of the
        same user): it has the keys in its environment.
        """
        with self._lock:
            if self._started or self._closed:
                return
            self._started = True
            # The keys are in here too: other programs of the same user may neither trace this
            # process nor read its environment or memory. prctl(2), ptrace(2).
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
            self._thread.start()
        self._soon(self._serving)

    def ask(
        self,
        ask: Ask,
        interrupt: Interrupt,
        token: RunToken,
        on_piece: Callable[[Piece], object],
    ) -> Asking:
        """Have a provider asked.

        token: when it is cancelled, so is the request; the process is ended when it does not heed
        that within `interrupt`. on_piece: called in another thread.
        """
        self.start()
        asking = Asking(self._loop, ask, interrupt, token, on_piece)

        def begin() -> None:
            task = self._loop.create_task(self._see_through(asking))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        if not self._soon(begin):
            asking.result.set_result(None)
        return asking

    def close(self) -> tuple[Survivor, ...]:
        """End it; block until that is proven. Requests on their way end without a result."""
        with self._lock:
            self._closed = True
            if not self._started:
                self._loop.close()
                return self._survivors
            self._started = False
        with suppress(RuntimeError):
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        return self._survivors

    # --- the thread --------------------------------------------------------------------------

    def _main(self) -> None:
        # The embedder's signals are for the embedder's threads.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _soon(self, callback: Callable[[], object]) -> bool:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # closed
            return False
        return True

    async def _see_through(self, asking: Asking) -> None:
        try:
            result = await self._ask(asking)
        except BaseException as error:
            asking.result.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            asking.result.set_result(result)

    async def _ask(self, asking: Asking) -> Result:
        from sandbox_agent_sandbox.host.session import Patience

        ask, interrupt, token = asking.what, asking.interrupt, asking.token
        patience = Patience(interrupt.grace, interrupt.term, ask.timeout + self._silence_margin)
        body, deaths = _encode(ask), list[str]()

        def on_reply(data: bytes) -> None:
            piece = _decode(data)
            assert isinstance(piece, Piece)
            asking.on_piece(piece)

        while len(deaths) < ATTEMPTS:
            try:
                session = await self._serving_unless(token)
            except SandboxBroken as error:
                deaths.append(str(error))
                continue
            if session is None:
                return None

            def on_sent(name: str, session: Session = session) -> None:
                asking.sent(session, name)

            answer = await session.ask(
                body, patience, token=token, on_reply=on_reply, on_sent=on_sent
            )
            if answer.body is not None:
                result: Answer | Failure | Piece = _decode(answer.body)
                assert not isinstance(result, Piece)
                if isinstance(result, Answer) or answer.reason is None:
                    return result
                # It failed of being stopped.
            if self._closed or token.is_cancelled:
                return None
            # It was caught in a process that died, or has itself hung one.
            why = answer.lost or "it did not answer"
            deaths.append(f"{why} (silent for too long)" if answer.reason else why)
            asking.on_piece(Piece("restart", f"the model process was replaced: {why}"))
        return Failure(
            FailureKind.CRASHED,
            f"the process that asks {ask.model} died {len(deaths)} times: {deaths[-1]}",
        )

    async def _serving_unless(self, token: RunToken) -> Session | None:
        """A session that serves. None when the token is cancelled first."""
        stopped: asyncio.Future[None] = self._loop.create_future()
        forget = token.add_callback(lambda: self._soon(lambda: resolve(stopped)))
        try:
            serving = self._serving()
            either: list[asyncio.Future[Any]] = [serving, stopped]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            forget()
        if token.is_cancelled or self._closed:
            return None
        return serving.result()

    def _serving(self) -> asyncio.Task[Session]:
        """The task that opens the session, or has opened it."""
        opening = self._opening
        if opening is not None:
            fine = not opening.done() or (
                not opening.cancelled() and opening.exception() is None and opening.result().usable
            )
            if fine:
                return opening
        self._opening = self._loop.create_task(self._open())
        self._opening.add_done_callback(_seen)
        return self._opening

    async def _open(self) -> Session:
        from sandbox_agent_sandbox.host.cell import Cell

        if self._closed:
            raise SandboxBroken("the model process was closed")
        if self._cell is not None and not self._cell.usable:
            await self._close_cell()
        if self._cell is None:
            usual = Interrupt()
            plan = make_model_plan(self._environ)
            self._cell = Cell(plan, grace=usual.grace, term=usual.term, deadlines=self._deadlines)
            try:
                await self._cell.open()
            except SandboxError:
                self._cell = None
                raise
        try:
            return await self._cell.session(_FUNCTION, environment(self._environ))
        except SandboxBroken:
            await self._close_cell()  # It may be what prevents it: the next one gets a new one.
            raise

    async def _close_cell(self) -> None:
        cell, self._cell = self._cell, None
        if cell is not None:
            self._survivors += await self._loop.run_in_executor(None, cell.close)

    async def _end(self) -> None:
        opening = self._opening
        await self._close_cell()
        if opening is not None:
            opening.cancel()
            await asyncio.wait([opening])
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._close_cell()
        await self._loop.shutdown_default_executor()


def _seen(task: asyncio.Task[Session]) -> None:
    """Nobody may be waiting for it: what it raised is told to whoever asks next."""
    if not task.cancelled():
        task.exception()
