"""The host's side of the model process, which asks providers: started early, replaced if it dies.

A thread with its own event loop holds the sandbox and the session of the process: conversations
live in loops that come and go, and a blocked loop of the embedding program must not stop a stream.
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
from sandbox_agent_ipc.futures import call_soon, cancellation
from sandbox_agent_ipc.messages import FunctionRef
from sandbox_agent_ipc.model_messages import Answer, Ask, Failure, FailureKind, FromModel, Piece
from sandbox_agent_ipc.shortage import explained, shortage_in, start_thread
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.errors import SandboxBroken, SandboxError, SandboxUnavailable
from sandbox_agent_sandbox.host.deadlines import DEFAULT, Deadlines
from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.outcome import Survivor

from sandbox_agent.config.settings import Interrupt
from sandbox_agent.models.process.environment import environment, make_model_plan, model_policy

if TYPE_CHECKING:
    from sandbox_agent_sandbox.host.cell import Cell
    from sandbox_agent_sandbox.host.session import Session
    from sandbox_agent_sandbox.plan import PlanKind

ATTEMPTS = 3
"""Model processes that may die during one request, before the request counts as the cause."""

ESCALATION = 0.1
"""Seconds between a second interrupt and SIGTERM, for a process with other requests in it."""

SILENCE_MARGIN = 5.0
"""Seconds beyond a provider's silence limit: a healthy process has reported that limit by then."""

_FUNCTION = FunctionRef("sandbox_agent.models.process.inside.serve", "serve")

Result = Answer | Failure | None
"""None: the request was cancelled."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(FromModel).decode


class Request:
    """A request in flight (see `ModelProcess.ask`). result: done when no part of it runs any
    more."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ask: Ask,
        interrupt: Interrupt,
        token: RunToken,
        on_piece: Callable[[Piece], object],
    ) -> None:
        self._loop = loop
        self.ask = ask
        self.interrupt = interrupt
        self.token = token
        self.on_piece = on_piece
        self.result: Future[Result] = Future()
        self._session: Session | None = None
        self._name = ""

    def sent(self, session: Session, name: str) -> None:
        """The request was sent in this session, under this name."""
        self._name = name
        self._session = session

    def escalate(self) -> None:
        """Ends the grace period of a cancelled request after `ESCALATION`. May be called from any
        thread and from signal handlers.

        The delay protects other requests in the process, which takes seconds to replace: nearly
        always the request has ended by itself before.
        """
        session = self._session
        if session is not None:
            call_soon(self._loop, self._loop.call_later, ESCALATION, session.escalate, self._name)


class ModelProcess:
    """See the module. Methods may be called from any thread.

    environ: holds the keys. deadlines: of its sandbox. silence_margin: see SILENCE_MARGIN.
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
        """Starts the process without blocking, unless it was started. It is ready after seconds.

        From then on the calling program is not dumpable (no core files, no debugger of the same
        user), because it has the keys in its environment.
        """
        with self._lock:
            if self._started or self._closed:
                return
            self._started = True
            # This process has the keys too. Not dumpable, it cannot be traced by other programs of
            # the same user, and they cannot read its environment or memory. prctl(2), ptrace(2).
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
            try:
                start_thread(self._thread)
            except RuntimeError as error:
                self._started = False
                why = f"the model process cannot be started: {explained(error)}"
                raise SandboxUnavailable(why) from None
        call_soon(self._loop, self._session_task)

    def ask(
        self,
        ask: Ask,
        interrupt: Interrupt,
        token: RunToken,
        on_piece: Callable[[Piece], object],
    ) -> Request:
        """Sends a request to a provider.

        token: cancels the request. If the request does not end within the grace and term periods of
        `interrupt`, the process is ended. on_piece: called in another thread.
        """
        self.start()
        request = Request(self._loop, ask, interrupt, token, on_piece)

        def begin() -> None:
            task = self._loop.create_task(self._complete(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        if not call_soon(self._loop, begin):
            request.result.set_result(None)
        return request

    def close(self) -> tuple[Survivor, ...]:
        """Ends the process, and blocks until its end is proven. Requests in flight get no
        result."""
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
        # Signals are for the threads of the embedding program.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _complete(self, request: Request) -> None:
        try:
            result = await self._ask(request)
        except BaseException as error:
            request.result.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            request.result.set_result(result)

    async def _ask(self, request: Request) -> Result:
        from sandbox_agent_sandbox.host.session import Patience

        ask, interrupt, token = request.ask, request.interrupt, request.token
        patience = Patience(interrupt.grace, interrupt.term, ask.timeout + self._silence_margin)
        body, deaths = _encode(ask), list[str]()
        session: Session | None = None

        def on_reply(data: bytes) -> None:
            piece = _decode(data)
            assert isinstance(piece, Piece)
            request.on_piece(piece)

        while len(deaths) < ATTEMPTS:
            try:
                session = await self._session_unless(token)
            except SandboxBroken as error:
                deaths.append(str(error))
                session = None
                continue
            if session is None:
                return None

            def on_sent(name: str, session: Session = session) -> None:
                request.sent(session, name)

            answer = await session.ask(
                body, patience, token=token, on_reply=on_reply, on_sent=on_sent
            )
            if answer.body is not None:
                result: Answer | Failure | Piece = _decode(answer.body)
                assert not isinstance(result, Piece)
                if isinstance(result, Answer) or answer.reason is None:
                    return result
                # The failure is an effect of the cancellation.
            if self._closed or token.is_cancelled:
                return None
            # The process died during the request, or the request made it hang.
            why = answer.lost or "it did not answer"
            deaths.append(f"{why} (silent for too long)" if answer.reason else why)
            request.on_piece(Piece("restart", f"the model process was replaced: {why}"))
        if session is None and (short := shortage_in(deaths[-1])) is not None:
            return Failure(FailureKind.SHORTAGE, str(short))
        return Failure(
            FailureKind.CRASHED,
            f"the model process died {len(deaths)} times while it asked {ask.model}: {deaths[-1]}",
        )

    async def _session_unless(self, token: RunToken) -> Session | None:
        """An open session. None if the token is cancelled first."""
        with cancellation(token) as stopped:
            opened = self._session_task()
            either: list[asyncio.Future[Any]] = [opened, stopped]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if token.is_cancelled or self._closed:
            return None
        return opened.result()

    def _session_task(self) -> asyncio.Task[Session]:
        """The task that opens the session, or has opened it."""
        opening = self._opening
        if opening is not None:
            usable = not opening.done() or (
                not opening.cancelled() and opening.exception() is None and opening.result().usable
            )
            if usable:
                return opening
        self._opening = self._loop.create_task(self._open())
        self._opening.add_done_callback(_retrieve)
        return self._opening

    async def _open(self) -> Session:
        from sandbox_agent_sandbox.host.cell import Cell
        from sandbox_agent_sandbox.policy.kinds.build import build
        from sandbox_agent_sandbox.policy.probe import host_facts

        if self._closed:
            raise SandboxBroken("the model process was closed")
        if self._cell is not None and not self._cell.usable:
            await self._close_cell()
        if self._cell is None:
            default = Interrupt()
            policy, facts = model_policy(self._environ), host_facts()

            def make(kind: PlanKind) -> Cell:
                plan = make_model_plan(policy, facts, kind)
                self._cell = Cell(
                    plan, grace=default.grace, term=default.term, deadlines=self._deadlines
                )
                return self._cell

            try:
                self._cell = await build(policy, facts, make)
            except SandboxError:
                self._cell = None
                raise
        try:
            return await self._cell.session(_FUNCTION, environment(self._environ))
        except SandboxBroken:
            await self._close_cell()  # The cell may be the cause: the next attempt gets a new one.
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


def _retrieve(task: asyncio.Task[Session]) -> None:
    """Marks the exception as retrieved: the next request raises it, if there is one."""
    if not task.cancelled():
        task.exception()
