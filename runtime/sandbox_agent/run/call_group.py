"""The calls of one turn and the commands of `verify`, each with a token of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.cancel_shield import CancelShield
from sandbox_agent_ipc.futures import resolve
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.nearest import did_you_mean
from sandbox_agent_sandbox.outcome import Outcome
from sandbox_agent_sandbox.protection.finding import PROTECTED

from sandbox_agent.embedding.home_loop import HomeLoop
from sandbox_agent.journal.events import Stamp, ToolCall, Verified
from sandbox_agent.models import STOPPED
from sandbox_agent.run.call import Caller, Request
from sandbox_agent.run.run_journal import RunJournal
from sandbox_agent.tools.arguments import BadArguments, read_arguments
from sandbox_agent.tools.built_in import SHELL
from sandbox_agent.tools.registry import Registry, time_for

T = TypeVar("T")


class CallGroup:
    """Makes the calls of one run, at most `parallel` at once.

    tasks: everything that the run has started and that has not ended. shield: waits for them.
    """

    def __init__(
        self, journal: RunJournal, parallel: int, home: HomeLoop, shield: CancelShield
    ) -> None:
        self._journal = journal
        self._run_token = journal.decision.token
        self._parallel = parallel
        self._home = home
        self._shield = shield
        self._tokens: dict[str, RunToken] = {}
        """Of every call that the model asked for and that has not ended."""
        self._woken: asyncio.Future[None] | None = None
        """Resolved when a call was cancelled, which may be one that waits in `make`."""
        self._look_for_cancelled = False
        self.tasks: set[asyncio.Task[Any]] = set()
        self._run_token.add_callback(partial(home.call_soon, self._wake))

    # --- tokens ------------------------------------------------------------------------------

    def new_token(self, call_id: str) -> RunToken:
        """Make the token of a call. It is cancelled with the run's token, or alone."""
        token = self._tokens[call_id] = self._run_token.child()
        return token

    def cancel(self, call_id: str) -> bool:
        """Stop one call, queued or in flight. From any thread. False when no such call is open."""
        token = self._tokens.get(call_id)
        if token is None:
            return False
        if not token.is_cancelled:
            self._journal.cancel_stamps.setdefault(call_id, Stamp.now())
        if token.cancel(CancelReason.CANCEL_CALL):
            self._home.call_soon(self._journal.record_cancelled_call, call_id)
            self._home.call_soon(self._wake)
        return True

    def _wake(self) -> None:
        self._look_for_cancelled = True
        if self._woken is not None:
            resolve(self._woken)

    def _drop_token(self, call_id: str) -> None:
        token = self._tokens.pop(call_id, None)
        if token is not None:
            token.detach()

    # --- calls -------------------------------------------------------------------------------

    async def make(
        self,
        calls: Sequence[ToolCall],
        caller: Caller,
        registry: Registry,
        unmade: Mapping[str, str],
    ) -> None:
        """Make the calls of a turn. When this returns, each has ended.

        They begin in the order in which the model asked for them, so none overtakes another. A call
        of an exclusive tool has the turn for itself: it begins when all earlier calls have ended,
        and the later ones wait for its end. A call that is cancelled while it waits leaves the
        queue at once.

        unmade: what the model is told of those that must not be made, by their ids.
        """
        waiting = deque(calls)
        going: set[asyncio.Task[Any]] = set()
        alone: asyncio.Task[Any] | None = None
        while waiting or going:
            while waiting and alone is None and len(going) < self._parallel:
                call = waiting[0]
                exclusive = registry.is_exclusive(call.tool) and call.id not in unmade
                if exclusive and going:
                    break
                waiting.popleft()
                task = self.spawn(self._one(call, caller, registry, unmade.get(call.id)))
                going.add(task)
                alone = task if exclusive else None
            if self._look_for_cancelled:
                self._look_for_cancelled = False
                cancelled = self._take_cancelled(waiting)
                for call in cancelled:
                    going.add(self.spawn(self._one(call, caller, registry, unmade.get(call.id))))
            self._woken = asyncio.get_running_loop().create_future()
            await self._shield.wait({*going, self._woken}, first=True)
            self._report_bugs(task for task in going if task.done())
            going = {task for task in going if not task.done()}
            alone = alone if alone in going else None

    def _take_cancelled(self, waiting: deque[ToolCall]) -> list[ToolCall]:
        """Take the calls out of `waiting` that are cancelled, and return them."""
        calls = list(waiting)
        cancelled: list[ToolCall] = []
        waiting.clear()
        for call in calls:
            token = self._tokens.get(call.id)
            gone = token is not None and token.is_cancelled
            (cancelled if gone else waiting).append(call)
        return cancelled

    async def _one(
        self, call: ToolCall, caller: Caller, registry: Registry, unmade: str | None
    ) -> None:
        token = self._tokens.get(call.id) or self.new_token(call.id)
        try:
            if token.is_cancelled:
                caller.skip(call.id, token)
                return
            request = unmade or _request(call, registry, caller.time_limit)
            if isinstance(request, str):
                caller.refuse(call.id, request)
            else:
                await caller.call(request, token)
        finally:
            self._drop_token(call.id)

    async def verify(self, call_id: str, command: str, caller: Caller) -> bool | None:
        """Run one `verify` command in a shell. Returns whether it passed; None if it could not be
        started.

        A command that was stopped with the run, or not started, gets no `verify` event: it proves
        nothing.
        """
        arguments = {"command": command}
        request = Request(call_id, "shell", SHELL, arguments, caller.time_limit, command)
        task = self.spawn(caller.call(request, self.new_token(call_id)))
        try:
            await self._shield.wait({task})
        finally:
            self._drop_token(call_id)
        self._report_bugs([task])
        call = self._journal.state.calls.get(call_id)
        ended = call.ended if call is not None else None
        if ended is not None and not ended.made:
            return None
        passed = ended is not None and ended.outcome is Outcome.OK and not ended.exit_status
        if ended is not None and any(one.what == PROTECTED for one in ended.restored):
            passed = False  # the judged code has changed what it is judged by
        stopped = ended is None or ended.outcome in STOPPED
        if call is not None and not (stopped and self._run_token.is_cancelled):
            self._journal.record(Verified, command=command, call=call_id, passed=passed)
        return passed

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task of the run. It stays in `tasks` until it is done."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def abandon(self) -> None:
        """Close every task's coroutine where it is suspended, because its event loop does not run
        any more. So each gives back what it holds."""
        while self.tasks:
            coroutine: Any = self.tasks.pop().get_coro()
            # Raised by a coroutine that awaits on regardless, and by the one whose frame the
            # exception left the loop from.
            with suppress(RuntimeError, ValueError):
                coroutine.close()

    def _report_bugs(self, done: Iterable[asyncio.Task[Any]]) -> None:
        """Stop the run if a call's task failed, which is a bug. The call ends with the run."""
        for task in done:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self._journal.fail(error, f"a bug in sandbox-agent: {error!r}")


def _request(call: ToolCall, registry: Registry, time_limit: float | None) -> Request | str:
    """The request for a model's call, or a text that says what is wrong with the call."""
    tool = registry.get(call.tool)
    if tool is None:
        names = [spec.name for spec in registry.specs]
        guess = did_you_mean(call.tool, names)
        known = ", ".join(names) or "none at all"
        told = f"there is no tool {call.tool!r}; the tools are: {known}"
        return f"{told}; {guess}" if guess else told
    try:
        arguments = read_arguments(call.tool, call.arguments)
    except BadArguments as error:
        return str(error)
    time = time_for(tool, arguments, time_limit)
    return Request(call.id, call.tool, tool.spec.function, arguments, time)
