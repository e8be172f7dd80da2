"""One sandbox for the rest of the program: open, call, cancel, close."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from sandbox_agent_ipc.board import Board, Slot
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.errors import BoardFull, IpcError
from sandbox_agent_ipc.futures import (
    call_soon,
    cancellation,
    cancelled_errors,
    resolve,
    running_loop,
    wait,
)
from sandbox_agent_ipc.messages import (
    Call,
    Describe,
    Described,
    FunctionRef,
    Serve,
    ToolProblem,
    ToolSpec,
)
from sandbox_agent_ipc.shortage import explained
from sandbox_agent_ipc.token import RunToken

from sandbox_agent_sandbox.errors import CellClosed, SandboxBroken, SandboxError, SandboxUnavailable
from sandbox_agent_sandbox.host.deadlines import DEFAULT, Deadlines
from sandbox_agent_sandbox.host.disk.kept_paths import Held, refuse_moved, refuse_replaced
from sandbox_agent_sandbox.host.supervisor import Supervisor
from sandbox_agent_sandbox.outcome import CallResult, Outcome, StartedState, Survivor
from sandbox_agent_sandbox.plan import Plan, as_built
from sandbox_agent_sandbox.received import check_described
from sandbox_agent_sandbox.request import CallRequest as CallRequest

if TYPE_CHECKING:
    import asyncio

    from sandbox_agent_sandbox.host.call_io import CallIO
    from sandbox_agent_sandbox.host.session import Session


_MOMENT = 0.1
"""Seconds in which an event loop has called what a thread asked it to."""

_NOBODY_BUILDS = (
    "the sandbox cannot be built: the thread that builds it has ended; hint: it may have found no "
    "memory (ulimit -v, ulimit -d; memory.max of the cgroup)"
)


class Cell:
    """A sandbox and the calls in it.

    plan: what to build (`policy.make_plan`); None where `set_plan` says so later. grace, term:
    seconds from the flag to SIGTERM, and from there to SIGKILL. deadlines: for what the sandbox
    does by itself. spares: how many calls' processes to keep ready, see `spares`; `spares_note`
    says why there are fewer.

    Any thread may call `cancel`, `escalate`, `wait_idle` and `close`, and signal handlers may call
    the first two. `call` may be awaited in several event loops at the same time. The rest belongs
    to one event loop at a time. `start` needs none.

    Raises SandboxUnavailable where the host has not even the few descriptors that it begins with.
    """

    def __init__(
        self,
        plan: Plan | None = None,
        *,
        grace: float,
        term: float,
        deadlines: Deadlines = DEFAULT,
        spares: int = 0,
    ) -> None:
        self._planned = plan
        try:
            self._board = Board()
        except IpcError as error:
            raise SandboxUnavailable(str(error)) from error
        try:
            self._supervisor = Supervisor(
                self._board.fd, grace=grace, term=term, deadlines=deadlines, spares=spares
            )
        except OSError as error:
            self._board.close()
            raise SandboxUnavailable(f"the sandbox cannot be built: {explained(error)}") from error
        self._slot_waiters: deque[asyncio.Future[None]] = deque()
        self._descriptions = itertools.count(1)
        self._held: list[Held] = []
        self._started = False
        self._opened = False
        self._closed = False

    def start(self) -> None:
        """Start the sandbox's first process, which needs no plan to begin with: what it imports
        takes longer than to build the sandbox. Idempotent. `close` ends it.

        Raises SandboxUnavailable where there is no room for a thread; what else fails, `open` says.
        """
        if self._started or self._closed:
            return
        try:
            self._supervisor.launch()
        except RuntimeError as error:
            self.close()
            raise SandboxUnavailable(f"the sandbox cannot be built: {explained(error)}") from None
        self._started = True

    def set_plan(self, plan: Plan) -> None:
        """What to build. Before `open`."""
        self._planned = plan

    async def open(self) -> None:
        """Build the sandbox. Raises SandboxUnavailable where this host refuses a step, CellClosed
        after `close` or a `start` that failed."""
        if self._closed:
            raise CellClosed("this sandbox is closed; make another one")
        plan = self._plan
        loop = running_loop()
        done: asyncio.Future[SandboxError | None] = loop.create_future()

        def resolve(failure: SandboxError | None) -> None:
            if not done.done():
                done.set_result(failure)

        self.start()
        self._supervisor.open(plan, partial(call_soon, loop, resolve))
        try:
            # Here, while it is built: calls need it.
            from sandbox_agent_sandbox.host import call_io  # noqa: F401
        except OSError as error:
            self.close()
            raise SandboxUnavailable(f"the sandbox cannot be built: {explained(error)}") from error
        patience = self._supervisor.deadlines.open + self._supervisor.deadlines.launch
        while not done.done():
            await wait({done}, timeout=patience)
            if not done.done() and not self._supervisor.kill_stopped_spawner():
                await wait({done}, timeout=_MOMENT)  # for what it said last
                resolve(SandboxUnavailable(_NOBODY_BUILDS))
        failure = done.result()
        if failure is not None:
            self.close()
            raise failure
        try:
            self._held = [Held(bind.path) for bind in plan.binds if bind.writable]
        except OSError as error:
            self.close()
            raise SandboxUnavailable(f"the sandbox cannot be built: {explained(error)}") from error
        if self._closed:  # by another thread, just as it was built
            self._let_go()
            raise SandboxUnavailable("the sandbox cannot be built: it was closed meanwhile")
        self._planned = as_built(plan, self._supervisor.no_image)
        self._opened = True

    @property
    def no_image(self) -> str:
        """Why /tmp is a folder, where it was planned as a file system of a fixed size; or ""."""
        return self._supervisor.no_image

    @property
    def spares_note(self) -> str:
        """Why fewer spares are kept than were asked for; or "". Nothing of a sandbox that has
        failed, which says why itself."""
        return self._supervisor.spares.note if self._supervisor.failure is None else ""

    async def describe(
        self, functions: list[FunctionRef], cwd: str, *, token: RunToken | None = None
    ) -> list[ToolSpec | ToolProblem]:
        """Let a worker import these functions and describe them. The host never imports them.

        token: cancels it. Raises SandboxBroken when the worker died or was cancelled, or when what
        came from it is no description of these functions.
        """
        self._check()
        name = f"describe-{next(self._descriptions)}"
        timeout = self._supervisor.deadlines.describe
        request = CallRequest(name, FunctionRef("", ""), b"{}", cwd, timeout=timeout)
        message = Describe(functions, cwd, dict(self._plan.environment))
        try:
            exchange = await self._exchange(request, token, lambda slot, word: message)
        except _Skipped as skipped:
            raise SandboxBroken(f"the tools were not described: {skipped}") from None
        answer = exchange.answer
        if not isinstance(answer, Described) or len(answer.tools) != len(functions):
            result = exchange.result()
            text = (result.content or result.output or result.detail).strip()
            raise SandboxBroken(f"the tools' modules cannot be imported: {result.outcome}: {text}")
        check_described(answer.tools, functions)
        return list(answer.tools)

    async def call(self, request: CallRequest, *, token: RunToken | None = None) -> CallResult:
        """Run one tool. Returns when its processes are proven dead, or the survivors are named.

        token: when it is cancelled, so is this call. If the awaiting task is cancelled, the call is
        stopped first, and then CancelledError is raised. Raises CellClosed or SandboxBroken when
        the sandbox is not open or has failed.
        """
        self._check()

        def message(slot: int, word: int) -> Call:
            return Call(
                id=request.id,
                slot=slot,
                word=word,
                function=request.function,
                arguments=request.arguments,
                cwd=request.cwd,
                env={**self._plan.environment, **request.env},
                output_limit=request.output_limit,
                has_stdin=request.stdin is not None,
            )

        try:
            exchange = await self._exchange(request, token, message)
        except _Skipped as skipped:
            return CallResult(
                request.id, Outcome.SKIPPED, StartedState.NO, detail=f"{skipped} before it began"
            )
        return exchange.result()

    async def session(self, function: FunctionRef, env: dict[str, str]) -> Session:
        """Start a worker that answers requests; return when it serves.

        function: of a trusted module of this project, called with a `SessionServer`. env: added to
        the plan's environment. Raises SandboxBroken when the worker does not begin to serve.
        """
        self._check()
        # Imported here: a sandbox for tools has none.
        from sandbox_agent_sandbox.host.session import Session

        session = Session(self._supervisor, self._claim_or_none, self._slot_is_free)
        environment = {**self._plan.environment, **env}
        await session.open(Serve(function, self._plan.workspace, environment))
        return session

    async def _claim_or_none(self, name: str, token: RunToken | None) -> Slot | None:
        try:
            return await self._claim(name, token)
        except _Skipped:
            return None

    def cancel(self, call_id: str, reason: CancelReason) -> bool:
        """Cancel one call in flight. Returns False when no call has this id."""
        return self._supervisor.cancel(call_id, reason)

    def escalate(self, call_id: str | None = None) -> None:
        """End the grace period of every call in flight, or of this one: SIGTERM as soon as the call
        is flagged.

        Calls that begin afterwards are not affected.
        """
        self._supervisor.escalate(call_id)

    def freeze(self, limit: float = 1.0) -> bool:
        """Stop every process in the sandbox until `thaw`, as Ctrl-Z stops a job. For any thread.

        The processes of calls that begin meanwhile are stopped before their tool runs. Blocks for
        at most `limit` seconds, and returns whether all processes are certain to be stopped.
        """
        return self._supervisor.freeze(limit)

    def thaw(self) -> None:
        """Continue what `freeze` stopped. The time in between counts for no limit of a call."""
        self._supervisor.thaw()

    def wait_idle(self, timeout: float | None = None, call_id: str | None = None) -> bool:
        """Block until no call is in flight, or not this one. False when `timeout` seconds were not
        enough."""
        return self._supervisor.wait_idle(timeout, call_id)

    def begin_close(self, wait: float = 0.0) -> None:
        """Begin what `close` waits for, and wait so many seconds at most. From any thread."""
        if self._started:
            self._supervisor.begin_close(wait)

    def close(self) -> tuple[Survivor, ...]:
        """End the sandbox and everything in it, and wait for the proof. Idempotent. Returns the
        processes that could not be ended."""
        survivors = self._supervisor.close()
        if not self._closed:
            self._closed = True
            self._board.close()
            self._let_go()
        return survivors

    def _let_go(self) -> None:
        held, self._held = self._held, []  # one step: of two threads one gets them
        for folder in held:
            folder.close()

    @property
    def plan(self) -> Plan:
        """What was built. It differs from what was planned where `no_image` says why."""
        return self._plan

    @property
    def _plan(self) -> Plan:
        if self._planned is None:
            raise CellClosed("this sandbox has no plan yet; set one")
        return self._planned

    @property
    def usable(self) -> bool:
        """Whether it is open and has not failed."""
        return self._opened and not self._closed and self._supervisor.failure is None

    def _check(self) -> None:
        if self._closed or not self._opened:
            raise CellClosed("this sandbox is not open; open it, or make another one")
        if self._supervisor.failure is not None:
            raise self._supervisor.failure
        self.check_folders()
        refuse_replaced(self._plan)

    def check_folders(self) -> None:
        """Raise SandboxBroken if a folder that tools write is not at its path any more: what they
        write would be lost with it."""
        refuse_moved(self._held, self._plan.workspace)

    async def _exchange(
        self,
        request: CallRequest,
        token: RunToken | None,
        message: Callable[[int, int], Call | Describe],
    ) -> CallIO:
        """Make a call; again, in the ordinary way, if its spare died before the tool began."""
        exchange = await self._attempt(request, token, message)
        if exchange.never_began:
            exchange = await self._attempt(request, token, message, after=exchange)
        return exchange

    async def _attempt(
        self,
        request: CallRequest,
        token: RunToken | None,
        message: Callable[[int, int], Call | Describe],
        *,
        after: CallIO | None = None,
    ) -> CallIO:
        slot = await self._claim(request.id, token, request.timeout)
        identity = self._plan.identity
        owner = (identity.outside_uid, identity.outside_gid)
        limits, counts_user = self._plan.limits, self._plan.counts_user
        from sandbox_agent_sandbox.host.call_io import CallIO  # loaded by `open`

        exchange = CallIO(request, slot, self._supervisor, owner, limits, counts_user=counts_user)
        try:
            # The host looks after its last wait. The worker looks again before the tool's code.
            _look(token)
            self._supervisor.spares.follow(token)
            await exchange.run(message(slot.index, slot.word), token, after=after)
        except cancelled_errors():
            request.on_cancelled(exchange.result())
            raise
        finally:
            exchange.close()
            self._slot_is_free()
        return exchange

    def _slot_is_free(self) -> None:
        for waiter in list(self._slot_waiters):
            call_soon(waiter.get_loop(), resolve, waiter)

    async def _claim(
        self, call_id: str, token: RunToken | None, timeout: float | None = None
    ) -> Slot:
        """A slot of the board. When all are taken, wait for one. timeout: the call's own time, in
        seconds from now on."""
        while True:
            _look(token)
            # It waits before it looks: another loop's call may give its slot back in between.
            waiter: asyncio.Future[None] = running_loop().create_future()
            self._slot_waiters.append(waiter)
            try:
                deadline = 0 if timeout is None else int((time.monotonic() + timeout) * 1e9)
                return self._board.claim(call_id, deadline)
            except BoardFull:
                with cancellation(token) as cancelled:
                    await wait([waiter, cancelled], first=True)
            finally:
                self._slot_waiters.remove(waiter)


class _Skipped(Exception):
    """The token was cancelled before the call was sent."""


def _look(token: RunToken | None) -> None:
    if token is not None and token.is_cancelled:
        raise _Skipped(str(token.reason))
