"""One call of a tool in a real sandbox, without a model, with a token that the test controls."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.outcome import CallResult, Survivor

from sandbox_agent.box.sandbox import Sandbox
from sandbox_agent.config.settings import Interrupt, settings_from
from sandbox_agent.errors import ConfigError

if TYPE_CHECKING:
    from sandbox_agent_sandbox.policy.policy import Policy

PATIENCE = 30.0
"""Seconds that a test waits for what it expects, and that a call may take, unless the test or the
policy says otherwise."""

_KEPT = 1 << 20
"""Bytes of the output that `wait_for_output` looks at: the last ones."""


class RunningTool:
    """A call that goes on while the test does something else; see `start_tool`. Leaving its `with`
    block stops it if it is still going."""

    def __init__(
        self,
        sandbox: Sandbox,
        function: Any,
        arguments: Mapping[str, Any],
        limit: float | str | None,
    ) -> None:
        self.token = RunToken()
        """The token of the call. Cancel it, or look at it."""
        self._box = sandbox
        self._changed = threading.Condition()
        self._started = False
        self._output = bytearray()
        self._result: CallResult | None = None
        self._error: BaseException | None = None
        self._is_over = False
        work = self._call(function, arguments, limit)
        self._thread = threading.Thread(target=self._go, args=(work,), name="tool-run", daemon=True)
        self._thread.start()

    def wait_started(self, timeout: float = PATIENCE) -> None:
        """Blocks until the tool's code runs. Raises AssertionError if the call ends before, and
        TimeoutError after `timeout` seconds."""
        self._wait(lambda: self._started, "the tool's code runs", timeout)

    def wait_for_output(self, text: str, *, timeout: float = PATIENCE) -> None:
        """Blocks until the tool has printed this text. Raises as `wait_started`."""
        wanted = text.encode()
        self._wait(lambda: wanted in self._output, f"the tool has printed {text!r}", timeout)

    def cancel(self, reason: CancelReason = CancelReason.INTERRUPT) -> bool:
        """Cancels the token: the ladder begins. Returns False if it was cancelled before."""
        return self.token.cancel(CancelReason(reason))

    def hurry(self) -> None:
        """Ends the grace period, as a second interrupt does."""
        self._box.escalate(self.token)

    def result(self, timeout: float | None = None) -> CallResult:
        """Blocks until the call has ended and nothing of it is left.

        timeout: seconds; None for as long as the call may take, and what it takes to stop it.
        Raises what `Sandbox.call` raises, and TimeoutError after `timeout` seconds; the call then
        goes on.
        """
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError(f"the call is not over after {timeout:g} s; hint: cancel() it")
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def close(self) -> tuple[Survivor, ...]:
        """Stop it, with no grace period. Blocks; idempotent. Returns what could not be stopped."""
        self.token.cancel(CancelReason.CLOSED)
        while self._thread.is_alive():
            self.hurry()
            self._thread.join(0.05)  # a call that is about to begin does not hear the first one
        return self._box.survivors

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _go(self, work: Any) -> None:
        try:
            self._result = asyncio.run(work)
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    async def _call(
        self, function: Any, arguments: Mapping[str, Any], limit: float | str | None
    ) -> CallResult:
        async with self._box as box:
            return await box.call(
                function,
                arguments,
                token=self.token,
                on_started=self._on_started,
                on_output=self._on_output,
                timeout=limit,
            )

    def _on_started(self) -> None:
        with self._changed:
            self._started = True
            self._changed.notify_all()

    def _on_output(self, stream: str, data: bytes) -> None:
        with self._changed:
            self._output += data
            if len(self._output) > 2 * _KEPT:
                del self._output[:_KEPT]
            self._changed.notify_all()

    def _wait(self, is_so: Callable[[], bool], what: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        with self._changed:
            while not is_so():
                if self._is_over:
                    ended = self._error or (self._result and self._result.outcome)
                    raise AssertionError(f"the call ended before {what}: {ended}")
                if (left := deadline - time.monotonic()) <= 0:
                    raise TimeoutError(f"not after {timeout:g} s: {what}")
                self._changed.wait(left)


def start_tool(
    function: Callable[..., Any] | str,
    arguments: Mapping[str, Any] | None = None,
    *,
    workspace: Path | str = ".",
    sandbox: Policy | Mapping[str, Any] | None = None,
    interrupt: Interrupt | tuple[float, float] = (0.5, 0.5),
    timeout: float | str | None = None,
) -> RunningTool:
    """Starts one call of a tool in a sandbox of its own, and returns at once.

    function: as in `Conversation(tools=...)`: a function, `package.module:function`, or the name of
    a built-in tool such as `shell` or `read_file`. arguments: as a model would give them.
    workspace: the folder that the tool works in. sandbox: the policy. interrupt: grace and term, in
    seconds. timeout: how long the call may take; by default 30 s, or what the policy says.

    Raises ConfigError for settings that are not possible. What goes wrong later is raised by
    `RunningTool.result`.
    """
    is_name = isinstance(function, str) and ":" not in function
    box = Sandbox(sandbox, workspace, tools=None if is_name else [function], interrupt=interrupt)
    if timeout is None:
        limits = settings_from({"sandbox": sandbox}).sandbox.limits
        timeout = None if "timeout" in limits.model_fields_set else PATIENCE
    return RunningTool(box, function, _checked(arguments or {}), timeout)


def _checked(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, as a message can hold them."""
    try:
        checked: dict[str, Any] = json.loads(json.dumps(dict(arguments), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"these are no arguments of a call: {error}",
            field="arguments",
            hint="give texts, numbers, lists and mappings, as a model would",
        ) from None
    return checked


def run_tool(
    function: Callable[..., Any] | str,
    arguments: Mapping[str, Any] | None = None,
    *,
    workspace: Path | str = ".",
    sandbox: Policy | Mapping[str, Any] | None = None,
    interrupt: Interrupt | tuple[float, float] = (0.5, 0.5),
    timeout: float | str | None = None,
) -> CallResult:
    """Runs one call of a tool to its end; see `start_tool`. Raises as `RunningTool.result`."""
    running = start_tool(
        function,
        arguments,
        workspace=workspace,
        sandbox=sandbox,
        interrupt=interrupt,
        timeout=timeout,
    )
    with running:
        return running.result()
