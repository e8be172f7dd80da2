"""One call of a tool in a real sandbox, without a model, with a token that the test controls."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.messages import Image
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.outcome import Outcome, Rung, StartedState, Survivor

from sandbox_agent.config.settings import BUILT_IN_TOOLS, Interrupt, Settings, settings_from
from sandbox_agent.config.workspace import existing_folder
from sandbox_agent.errors import ConfigError
from sandbox_agent.run.sandbox import ConversationSandbox
from sandbox_agent.tools.arguments import BadArguments, read_arguments
from sandbox_agent.tools.registry import BUILT_IN, time_for

if TYPE_CHECKING:
    from sandbox_agent_sandbox.policy.policy import Policy

PATIENCE = 30.0
"""Seconds that a test waits for what it expects, and that a call may take, unless it says
otherwise."""

_KEPT = 1 << 20
"""Bytes of the output that `wait_for_output` looks at: the last ones."""

_FILE_TOOLS = {reference.qualname for reference in BUILT_IN["files"]}


@dataclass(frozen=True)
class ToolRun:
    """How a call ended. text: what the tool returned. output: what it printed. rung: the last one
    of the ladder that was needed; None for a call that ended without being stopped. rungs_ms:
    milliseconds from the flag to each rung, and to `ended`."""

    outcome: Outcome
    started: StartedState
    text: str
    output: str
    exit_status: int | None
    rung: Rung | None
    rungs_ms: Mapping[str, float]
    detail: str
    images: tuple[Image, ...]
    survivors: tuple[Survivor, ...]

    @property
    def stopped_after(self) -> float | None:
        """Seconds from the cancellation until nothing of the call was left; None if it was not
        cancelled."""
        ended = self.rungs_ms.get("ended")
        return None if ended is None else ended / 1000


class RunningTool:
    """A call that goes on while the test does something else; see `start_tool`. Leaving its `with`
    block stops it if it is still going."""

    def __init__(
        self,
        settings: Settings,
        tool: str | None,
        arguments: Mapping[str, Any],
        timeout: float | None,
    ) -> None:
        self.token = RunToken()
        """The token of the call. Cancel it, or look at it."""
        self._tool = tool
        self._arguments = arguments
        self._timeout = timeout
        self._settings = settings
        self._host = ConversationSandbox(settings, ())
        self._changed = threading.Condition()
        self._started = False
        self._output = bytearray()
        self._all: list[bytes] = []
        self._result: ToolRun | None = None
        self._error: BaseException | None = None
        self._survivors: tuple[Survivor, ...] = ()
        self._is_over = False
        self._thread = threading.Thread(target=self._go, name="tool-run", daemon=True)
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
        self._host.escalate()

    def result(self, timeout: float | None = None) -> ToolRun:
        """Blocks until the call has ended and nothing of it is left.

        timeout: seconds; None for as long as the call may take, and what it takes to stop it.
        Raises what the sandbox raised, ConfigError for what is no tool, and TimeoutError after
        `timeout` seconds; the call then goes on.
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
            self._host.escalate()
            self._thread.join(0.05)  # a call that is about to begin does not hear the first one
        return self._survivors

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _go(self) -> None:
        try:
            asyncio.run(self._call())
        except BaseException as error:
            self._error = error
        finally:
            self._survivors = self._host.close()
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    async def _call(self) -> None:
        from sandbox_agent_sandbox.host.cell import CallRequest

        registry = await self._host.open(self.token)
        entry = registry.get(self._tool) if self._tool else registry.tools[0]
        assert entry is not None and self._host.cell is not None
        request = CallRequest(
            id="call",
            function=entry.spec.function,
            arguments=json.dumps(self._arguments).encode(),
            cwd=str(self._settings.workspace.path),
            timeout=time_for(entry, self._arguments, self._timeout),
            output_limit=self._settings.sandbox.limits.output,
            on_started=self._on_started,
            on_output=self._on_output,
        )
        result = await self._host.cell.call(request, token=self.token)
        printed = b"".join(self._all).decode("utf-8", "replace")
        self._result = ToolRun(
            outcome=result.outcome,
            started=result.started,
            text=result.content,
            output=printed,
            exit_status=result.exit_status,
            rung=result.rung,
            rungs_ms=result.rungs_ms,
            detail=result.detail,
            images=result.images,
            survivors=result.survivors,
        )

    def _on_started(self) -> None:
        with self._changed:
            self._started = True
            self._changed.notify_all()

    def _on_output(self, stream: str, data: bytes) -> None:
        with self._changed:
            self._all.append(data)
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
    timeout: float | None = PATIENCE,
) -> RunningTool:
    """Starts one call of a tool in a sandbox of its own, and returns at once.

    function: as in `Conversation(tools=...)`: a function, `package.module:function`, `shell`, or a
    tool of the set `files` such as `read_file`. arguments: as a model would give them. workspace:
    the folder that the tool works in. sandbox: the policy. interrupt: grace and term, in seconds.
    timeout: seconds that the call may take; None for the policy's limit alone.

    Raises ConfigError for settings that are not possible. What goes wrong later is raised by
    `RunningTool.result`.
    """
    name = None
    choice: Any = function
    if isinstance(function, str) and ":" not in function:
        name = function
        if function in _FILE_TOOLS:
            choice = "files"
        elif function not in BUILT_IN_TOOLS or function == "files":
            known = ", ".join(["shell", *sorted(_FILE_TOOLS)])
            raise ConfigError(
                f"{function!r} is not one tool",
                field="function",
                hint=f"write package.module:function, or one of {known}",
            )
    given = {"tools": [choice], "workspace": workspace, "sandbox": sandbox, "interrupt": interrupt}
    settings = settings_from(given)
    path = existing_folder(settings.workspace.path)
    moved = settings.workspace.model_copy(update={"path": path})
    settings = settings.model_copy(update={"workspace": moved})
    limits = (timeout, settings.sandbox.limits.timeout)
    limit = min((one for one in limits if one is not None), default=None)
    return RunningTool(settings, name, _checked(arguments or {}), limit)


def _checked(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, as a message can hold them."""
    try:
        return read_arguments("the call", json.loads(json.dumps(dict(arguments))))
    except (BadArguments, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"these are no arguments of a call: {error}",
            field="arguments",
            hint="give texts, numbers, lists and mappings, as a model would",
        ) from None


def run_tool(
    function: Callable[..., Any] | str,
    arguments: Mapping[str, Any] | None = None,
    *,
    workspace: Path | str = ".",
    sandbox: Policy | Mapping[str, Any] | None = None,
    interrupt: Interrupt | tuple[float, float] = (0.5, 0.5),
    timeout: float | None = PATIENCE,
) -> ToolRun:
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
