"""A call of a `Sandbox` in the event loop that awaits it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.outcome import CallResult

from sandbox_agent.box.record import BoxRecord
from sandbox_agent.embedding.blocking import call_until_it_returns
from sandbox_agent.embedding.home_loop import HomeLoop
from sandbox_agent.run.call import Caller, Request
from sandbox_agent.run.sandbox import ConversationSandbox


class Going:
    """One call, from the request to its end. Made in the event loop that it runs in.

    token: of the call. given: the program's own token for it. patience: seconds that a call may
    take once it is stopped; after that, its sandbox is closed. on_over: called when it is over.
    """

    def __init__(
        self,
        request: Request,
        token: RunToken,
        given: RunToken | None,
        host: ConversationSandbox,
        record: BoxRecord,
        patience: float,
        on_over: Callable[[str], object],
    ) -> None:
        self.token = token
        self.given = given
        self.home = HomeLoop()
        self._request = request
        self._host = host
        self._record = record
        self._patience = patience
        self._on_over = [on_over]
        self._work: Coroutine[Any, Any, CallResult]

    async def run(self, caller: Caller) -> CallResult:
        """Make the call, and record its end. If the awaiting task is cancelled, the call is stopped
        first, and then CancelledError is raised."""
        try:
            with self.home.end_if_deserted(self.end_without_loop):
                self._work = caller.call(self._request, self.token)
                return await self._work
        finally:
            self._leave()

    def end_without_loop(self) -> None:
        """End a call whose event loop does not run any more, as `Run.end_without_loop` does."""
        if not self.home.is_forked_copy:
            call_until_it_returns(self._end, self.escalate)

    def escalate(self) -> None:
        """Skip the grace period. For any thread and signal handlers."""
        cell = self._host.cell
        if cell is not None:
            cell.escalate(self._request.id)

    def _end(self) -> None:
        if not self._on_over:
            return
        self.token.cancel(CancelReason.CLOSED)
        cell = self._host.cell
        if cell is not None and not cell.wait_idle(self._patience, self._request.id):
            self._host.drop()
        # It gives back what it holds, where it is suspended. ValueError: the exception left the
        # loop from its own frame.
        with suppress(RuntimeError, ValueError):
            self._work.close()
        self._record.journal.end_open_calls(self._request.id)
        self._leave()

    def _leave(self) -> None:
        try:
            on_over = self._on_over.pop()
        except IndexError:
            return
        self.token.detach()
        on_over(self._request.id)
