"""`BlockingSandbox`: a `Sandbox` for programs without an event loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.messages import ToolSpec
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.outcome import CallResult, Survivor
from sandbox_agent_sandbox.protection.finding import Finding

from sandbox_agent.box.box import Box
from sandbox_agent.box.request import CallOptions, RunOptions
from sandbox_agent.embedding.ctrl_c import run_blocking


class BlockingSandbox:
    """An open `Sandbox` whose `run` and `call` block. `with Sandbox(...) as box` gives one.

    Any number of threads may use it at the same time. In the main thread, where Ctrl-C has its
    usual meaning, it stops the call (a second one skips the grace period), and KeyboardInterrupt is
    raised when the call has stopped. Where an event loop is running, use `async with`.
    """

    def __init__(self, sandbox: Any) -> None:
        self._sandbox: Box = sandbox

        def interrupt() -> bool:
            sandbox.interrupt()
            return True

        run_blocking("with Sandbox(...)", "use `async with`", sandbox.open, interrupt)

    def run(
        self, argv: Sequence[str | os.PathLike[str]], **options: Unpack[RunOptions]
    ) -> CallResult:
        """Run a program, and block until its end; see `Sandbox.run`."""
        return self._block("run()", options, lambda: self._sandbox.run(argv, **options))

    def call(
        self,
        function: Any,
        arguments: Mapping[str, Any] | str | None = None,
        **options: Unpack[CallOptions],
    ) -> CallResult:
        """Call a function, and block until its end; see `Sandbox.call`."""
        work = self._sandbox.call
        return self._block("call()", options, lambda: work(function, arguments, **options))

    def _block(
        self, name: str, options: CallOptions, work: Callable[[], Coroutine[Any, Any, CallResult]]
    ) -> CallResult:
        given = options.get("token")
        token = RunToken()
        if isinstance(given, RunToken):
            token = given.child()
        if given is None or isinstance(given, RunToken):  # the wrong ones are refused by `work`
            options["token"] = token
        presses = 0

        def interrupt() -> bool:
            nonlocal presses
            presses += 1
            token.cancel(CancelReason.INTERRUPT)
            if presses == 2:
                self._sandbox.escalate(token)
            return True

        try:
            return run_blocking(name, "use `async with`, and await it", work, interrupt)
        finally:
            token.detach()

    def interrupt(self) -> None:
        """Stop every call, for good; see `Sandbox.interrupt`."""
        self._sandbox.interrupt()

    def close(self) -> tuple[Survivor, ...]:
        """Stop what is going and take the sandbox down; see `Sandbox.close`."""
        return self._sandbox.close()

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """What a model is told of each tool; see `Sandbox.tools`."""
        return self._sandbox.tools

    @property
    def cancel_token(self) -> RunToken:
        """The token of the sandbox; see `Sandbox.cancel_token`."""
        return self._sandbox.cancel_token

    @property
    def survivors(self) -> tuple[Survivor, ...]:
        """Processes that could not be stopped; see `Sandbox.survivors`."""
        return self._sandbox.survivors

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What calls left that may start programs later; see `Sandbox.findings`."""
        return self._sandbox.findings

    @property
    def run_dir(self) -> Path | None:
        """The folder of the journal; None where there is none."""
        return self._sandbox.run_dir

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sandbox.__exit__(kind, error, trace)
