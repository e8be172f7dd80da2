"""The calls of one turn, and the commands of `verify`: so many at once, each with its own token."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.cancel_shield import CancelShield
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.outcome import Outcome

from sandbox_agent.journal.events import Asked, Stamp, Verified
from sandbox_agent.run.call import Caller, Request
from sandbox_agent.run.run_journal import RunJournal
from sandbox_agent.tools.registry import SHELL, Registry

T = TypeVar("T")

_STOPPED = frozenset({Outcome.CANCELLED, Outcome.KILLED, Outcome.SKIPPED, Outcome.UNKNOWN})


class CallGroup:
    """Makes the calls of one run.

    tokens: of every call that has been asked for and has not ended. on_cancel: what to do when the
    task that waits here is cancelled by somebody else.
    """

    def __init__(self, ledger: RunJournal, parallel: int, shield: CancelShield) -> None:
        self._ledger = ledger
        self._run_token = ledger.stopping.token
        self._parallel = parallel
        self._shield = shield
        self._tokens: dict[str, RunToken] = {}
        self._forget: dict[str, Callable[[], None]] = {}
        self.tasks: set[asyncio.Task[Any]] = set()

    # --- tokens ------------------------------------------------------------------------------

    def expect(self, call_id: str) -> RunToken:
        """Give a call its token: cancelled with the run's, or alone."""
        run_token, token = self._run_token, RunToken()

        def follow() -> None:
            token.cancel(run_token.reason or CancelReason.INTERRUPT)

        self._tokens[call_id] = token
        self._forget[call_id] = run_token.add_callback(follow)
        return token

    def cancel(self, call_id: str) -> bool:
        """Stop one call, queued or in flight. From any thread. False when there is none such."""
        token = self._tokens.get(call_id)
        if token is None:
            return False
        if token.cancel(CancelReason.CANCEL_CALL):
            self._ledger.soon(self._ledger.note_cancelled_call, call_id, Stamp.now())
        return True

    def _release(self, call_id: str) -> None:
        self._tokens.pop(call_id, None)
        self._forget.pop(call_id, lambda: None)()

    # --- calls -------------------------------------------------------------------------------

    async def make(self, calls: Sequence[Asked], caller: Caller, registry: Registry) -> None:
        """Make the calls of a turn. When this returns each has ended."""
        waiting = deque(calls)
        going: set[asyncio.Task[Any]] = set()
        while waiting or going:
            # Once the run is stopped the rest goes through at once: each is skipped.
            while waiting and (len(going) < self._parallel or self._run_token.is_cancelled):
                call = waiting.popleft()
                going.add(self.spawn(self._one(call, caller, registry)))
            await self._shield.wait(going, first=True)
            self._look_at(task for task in going if task.done())
            going = {task for task in going if not task.done()}

    async def _one(self, call: Asked, caller: Caller, registry: Registry) -> None:
        token = self._tokens.get(call.id) or self.expect(call.id)
        try:
            if token.is_cancelled:
                caller.skip(call.id, token)
                return
            request = _request(call, registry, caller.time_limit)
            if isinstance(request, str):
                caller.refuse(call.id, request)
            else:
                await caller.call(request, token)
        finally:
            self._release(call.id)

    async def verify(self, call_id: str, command: str, caller: Caller) -> bool:
        """Run one `verify` command in a shell. Returns whether it passed.

        One that was stopped with the run has no verdict: it says nothing about the work.
        """
        arguments = {"command": command}
        request = Request(call_id, "shell", SHELL, arguments, caller.time_limit, command)
        task = self.spawn(caller.call(request, self.expect(call_id)))
        try:
            await self._shield.wait({task})
        finally:
            self._release(call_id)
        self._look_at([task])
        call = self._ledger.state.calls.get(call_id)
        ended = call.ended if call is not None else None
        passed = ended is not None and ended.outcome is Outcome.OK and not ended.exit_status
        stopped = ended is None or ended.outcome in _STOPPED
        if call is not None and not (stopped and self._run_token.is_cancelled):
            self._ledger.record(Verified, command=command, call=call_id, passed=passed)
        return passed

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task of the run's; it stays in `tasks` until it is done."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def desert(self) -> None:
        """Give every task up where it is, since its loop goes no more, and back what it holds."""
        while self.tasks:
            coroutine: Any = self.tasks.pop().get_coro()
            # It waits on all the same; it is the frame that the loop was left from.
            with suppress(RuntimeError, ValueError):
                coroutine.close()

    def _look_at(self, done: Iterable[asyncio.Task[Any]]) -> None:
        """A call's task that failed is a bug of ours. Its call gets its end when the run does."""
        for task in done:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self._ledger.fail(error, f"a bug in sandbox-agent: {error!r}")


def _request(call: Asked, registry: Registry, time_limit: float | None) -> Request | str:
    """The request that a model's call stands for, or what is wrong with it."""
    tool = registry.get(call.tool)
    if tool is None:
        known = ", ".join(spec.name for spec in registry.specs) or "none at all"
        return f"there is no tool {call.tool!r}; the tools are: {known}"
    arguments = call.arguments
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments or "{}", type=dict[str, Any])
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return f"arguments of {call.tool} are not a JSON object: {error}"
    time = tool.time_for(arguments, time_limit)
    return Request(call.id, call.tool, tool.spec.function, arguments, time)
