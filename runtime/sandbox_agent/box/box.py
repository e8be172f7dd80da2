"""What a `Sandbox` does: it opens, makes calls, stops them, and closes."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

import msgspec
from sandbox_agent_ipc.after_fork import call_after_fork
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.cancel_shield import CancelShield
from sandbox_agent_ipc.futures import cancellation
from sandbox_agent_ipc.messages import ToolSpec
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.outcome import CallResult, Outcome, StartedState, Survivor
from sandbox_agent_sandbox.protection.finding import Finding

from sandbox_agent.box.going import Going
from sandbox_agent.box.phase import Phase, move
from sandbox_agent.box.record import BoxRecord, left_by, run_dir_for, wants
from sandbox_agent.box.request import (
    CallOptions,
    RunOptions,
    Surroundings,
    file_with,
    of_command,
    of_function,
    shown,
    stdin_of,
)
from sandbox_agent.config.settings import Interrupt, Workspace
from sandbox_agent.embedding.blocking import call_until_it_returns, in_executor
from sandbox_agent.embedding.loop_end import at_loop_end
from sandbox_agent.errors import StateError
from sandbox_agent.journal.events import BOX
from sandbox_agent.journal.recorder import Recorder, Unrecorded
from sandbox_agent.journal.status import Status
from sandbox_agent.models.no_model import NoModel
from sandbox_agent.run.call import Caller, Request, kept_output
from sandbox_agent.run.end import End, end_by_error
from sandbox_agent.run.setup import Options, make_setup
from sandbox_agent.run.stop_decision import StopDecision
from sandbox_agent.tools.arguments import BadArguments, read_arguments

if TYPE_CHECKING:
    from sandbox_agent_sandbox.policy.policy import Limits, Policy

_MARGIN = 1.0
"""Seconds beyond grace and term in which the ladder proves that a call has ended."""
_OWN_ENDS = (Outcome.OK, Outcome.ERROR, Outcome.TIMEOUT)


class Box:
    """What `Sandbox` does; see there."""

    def __init__(
        self,
        policy: Policy | Mapping[str, Any] | None = None,
        workspace: Path | str | Workspace = ".",
        *,
        tools: Sequence[Any] | None = None,
        interrupt: Interrupt | tuple[float, float] | Mapping[str, Any] | None = None,
        journal: bool | Path | str = False,
        name: str | None = None,
    ) -> None:
        options: dict[str, Any] = {"workspace": workspace, "sandbox": policy, "tools": tools}
        options["interrupt"] = interrupt
        recorded = wants(journal)
        self._setup = make_setup(
            run_dir_for(journal),
            NoModel(BOX),
            name,
            Options(**options),  # type: ignore[typeddict-item]
            recorder=Recorder if recorded else Unrecorded,
        )
        self._host = self._setup.host
        self._decision = StopDecision(None)
        self._record = BoxRecord(self._setup, self._decision, keeps=recorded)
        self._phase = Phase.NEW
        self._began = False
        self._in_parent = _InParent()
        self._at_loop_end = ExitStack()
        self._ids = itertools.count(1)
        self._caller: Caller | None = None
        self._going: dict[str, Going] = {}
        self._changed = threading.Condition()
        self._closing = threading.RLock()
        self._end = End(Status.DONE, "the sandbox was closed")
        self.run_dir: Path | None = self._setup.recorder.folder if recorded else None
        """The folder of the journal; None where there is none."""

    # --- opening -----------------------------------------------------------------------------

    async def open(self) -> Self:
        """Build the sandbox, and look at its tools. `async with` does this.

        Raises PolicyError and ConfigError for what this host or the policy does not allow,
        SandboxUnavailable if the sandbox cannot be built, NotRecorded if the journal cannot be
        written, StateError if this was done before.
        """
        self._phase = move(self._phase, Phase.OPENING)
        self._began = True
        try:
            self._record.begin(lambda: self._interrupt("cancelled from outside"))
            try:
                await self._open_host()
            finally:
                self._record.opened()
            self._phase = move(self._phase, Phase.OPEN)
        except BaseException as error:
            self._phase = Phase.CLOSED
            self._end = end_by_error(error) if isinstance(error, Exception) else left_by(error)
            with suppress(Exception):  # this error is the one to raise
                self.close()
            raise
        return self

    async def _open_host(self) -> None:
        token = self._decision.token
        opening = asyncio.get_running_loop().create_task(self._host.open(token))
        shield = CancelShield(opening.cancel)
        with cancellation(token) as stopped:
            await shield.wait({opening, stopped}, first=True)
            opening.cancel()
            await shield.wait({opening})
        shield.raise_cancelled()
        if opening.cancelled() or token.is_cancelled:
            raise StateError("the sandbox was stopped before it was open")
        opening.result()
        limits = self._setup.settings.sandbox.limits
        assert self._host.cell is not None
        self._caller = Caller(
            cell=self._host.cell,
            journal=self._record.journal,
            folder=self.run_dir,
            workspace=self._setup.settings.workspace.path,
            writable=self._host.writable(),
            output_limit=kept_output(limits),
            time_limit=limits.timeout,
            on_output=None,
            separate_output=True,
            stdin=None,
            guard=self._host.guard,
        )

    # --- calls -------------------------------------------------------------------------------

    async def run(
        self, argv: Sequence[str | os.PathLike[str]], **options: Unpack[RunOptions]
    ) -> CallResult:
        """Run a program with its arguments, without a shell, and wait for its end.

        argv: the program, found in PATH, and its arguments. options: see `RunOptions`.

        Whatever ended the call, the result says so: `outcome`, `exit_status`, `stdout`, `stderr`.
        When this returns or raises, the processes of the call are gone, those in the background
        included. If the awaiting task is cancelled, the call is stopped first, and then
        CancelledError is raised. Raises ConfigError for arguments that are not possible, StateError
        if the sandbox is not open, SandboxBroken if it has failed, NotRecorded if the journal
        cannot be written.
        """
        around = self._around()
        return await self._make(of_command(self._new_id(), argv, options, around), options)

    async def call(
        self,
        function: Any,
        arguments: Mapping[str, Any] | str | None = None,
        **options: Unpack[CallOptions],
    ) -> CallResult:
        """Call a function in a process of its own, inside the walls, and wait for its end.

        function: a function that a worker can import, its name (`package.module:function`), the
        name of a tool (`shell`, `read_file`), or its ToolSpec. arguments: an object, or its JSON
        text as models send it. options: see `CallOptions`.

        `content` of the result is what the function returned, as text. Arguments that do not fit
        are an error of the call (`Outcome.ERROR`). All else is as for `run`.
        """
        around = self._around()
        call_id, given = self._new_id(), {} if arguments is None else arguments
        shown_name = function if isinstance(function, str) else getattr(function, "__name__", "it")
        try:
            read = read_arguments(shown_name, given if isinstance(given, str) else dict(given))
        except BadArguments as error:
            request = of_function(call_id, function, {}, options, around)
            self._record.asked(call_id, request.tool, given)
            self._caller_of_open().refuse(call_id, str(error))
            return CallResult(call_id, Outcome.ERROR, StartedState.NO, content=str(error))
        return await self._make(of_function(call_id, function, read, options, around), options)

    async def _make(self, request: Request, options: CallOptions) -> CallResult:
        stdin, given = stdin_of(options), options.get("token")
        caller = self._caller_of_open()
        async with file_with(stdin) as file:
            token = self._decision.token.child(*([] if given is None else [given]))
            request = msgspec.structs.replace(request, stdin=file)
            parts = self._host, self._record, self._patience, self._is_over
            going = Going(request, token, given, *parts)
            with self._changed:
                self._check()
                self._going[request.id] = going
            self._record.asked(request.id, request.tool, shown(request, stdin))
            return self._checked(await going.run(caller))

    def _caller_of_open(self) -> Caller:
        if self._caller is None:
            raise StateError("this sandbox is not open; use it in `async with` or `with`")
        return self._caller

    def _checked(self, result: CallResult) -> CallResult:
        """The result, unless what the call came to is no more than that the sandbox has failed."""
        error = self._record.journal.first_error
        if error is not None and result.outcome not in _OWN_ENDS:
            raise error
        return result

    def _new_id(self) -> str:
        return f"call_{next(self._ids)}"

    def _around(self) -> Surroundings:
        self._check()
        settings, host = self._setup.settings, self._host
        self._caller_of_open()
        assert host.plan is not None and host.registry is not None
        limits = cast("Limits", settings.sandbox.limits)  # `make_setup` gives no other
        return Surroundings(settings.workspace.path, limits, host.plan, host.registry)

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """What a model is told of each tool: name, description, JSON schema of the arguments."""
        return self._around().registry.specs

    # --- stopping ----------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Stop every call, for good: calls that come later are skipped. Returns at once, takes no
        lock and needs no event loop. The second call skips the grace period. A third changes
        nothing. To stop single calls, give them a token of your own."""
        self._interrupt("interrupted")

    def _interrupt(self, why: str) -> None:
        if not self._in_parent.holds:
            return
        number = self._decision.count_interrupt()
        if number <= 2:
            self._decision.stop(CancelReason.INTERRUPT, why)
        if number == 2:
            self._host.escalate()

    def escalate(self, token: RunToken) -> None:
        """The calls that were given this token skip the grace period: SIGTERM as soon as the token
        is cancelled. For any thread and signal handlers."""
        for going in list(self._going.values()):
            if going.given is token:
                going.escalate()

    @property
    def cancel_token(self) -> RunToken:
        """The token of the sandbox, which cancels all of its calls. It stays cancelled for as long
        as you hold it."""
        return self._decision.token

    @property
    def survivors(self) -> tuple[Survivor, ...]:
        """Processes that could not be stopped, when the sandbox is closed; empty when all is
        well."""
        return self._host.survivors

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What calls left in the workspace and may start programs later, and what was undone, when
        the sandbox is closed; empty when all is well. Look at these before you work there."""
        return self._record.findings

    # --- closing -----------------------------------------------------------------------------

    def close(self) -> tuple[Survivor, ...]:
        """Stop what is going, take the sandbox down, and write its record. Blocks until nothing is
        left; closing twice is fine. Returns what could not be stopped.

        Calls that are going are stopped as by an interrupt. Where their event loop is the one of
        this thread, which this blocks, their outcome is recorded as `unknown`: use `aclose` there.
        Raises NotRecorded if the journal could not be written.
        """
        call_until_it_returns(self._close, self._host.escalate)
        return self.survivors

    async def aclose(self) -> tuple[Survivor, ...]:
        """As `close`, without blocking the event loop. If the task that awaits it is cancelled,
        closing is completed all the same, and then CancelledError is raised."""
        shield = CancelShield()
        closing = in_executor(self.close)
        await shield.wait({closing})
        shield.raise_cancelled()
        return closing.result()

    def _close(self) -> None:
        if not self._in_parent.holds:
            return
        with self._closing:
            with self._changed:
                opening = self._phase is Phase.OPENING
                self._phase = move(self._phase, Phase.CLOSED)
            if self._going or opening:
                self._decision.stop(CancelReason.CLOSED, "the sandbox was closed")
            self._wait_for_calls()
            survivors = self._host.close()
            self._record.found(self._host.look_again_now())
            if self._began:
                self._record.conclude(self._end, survivors)

    def _wait_for_calls(self) -> None:
        here = any(going.home.is_this_thread for going in list(self._going.values()))
        cell = self._host.cell
        if not here:
            with self._changed:
                self._changed.wait_for(lambda: not self._going, self._patience)
        elif cell is not None:
            cell.wait_idle(self._patience)

    @property
    def _patience(self) -> float:
        interrupt = self._setup.settings.interrupt
        return interrupt.grace + interrupt.term + _MARGIN

    def _is_over(self, call_id: str) -> None:
        with self._changed:
            self._going.pop(call_id, None)
            self._changed.notify_all()

    def _check(self) -> None:
        if not self._in_parent.holds:
            raise StateError("this sandbox belongs to the process that forked this one; make one")
        if self._phase is Phase.CLOSED:
            raise StateError("this sandbox is closed; make another one")

    def _leave_by(self, error: BaseException | None) -> None:
        if error is not None and self._phase is Phase.OPEN:
            self._end = left_by(error)

    async def __aenter__(self) -> Self:
        await self.open()
        # Exceptions of signal handlers may leave the loop for good, and with it the block.
        self._at_loop_end.enter_context(at_loop_end(self._close_with_loop))
        return self

    def _close_with_loop(self) -> None:
        if self._phase is Phase.OPEN and self._in_parent.holds:
            self._decision.stop(CancelReason.CLOSED, "its event loop was closed")
            self.close()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave_by(error)
        self._at_loop_end.close()
        if isinstance(error, GeneratorExit):
            self.close()  # a coroutine that is thrown away cannot wait for anything
        else:
            await self.aclose()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave_by(error)
        self.close()


class _InParent:
    """Holds until a fork, in the child: what was made before belongs to the parent."""

    def __init__(self) -> None:
        self.holds = True
        call_after_fork(self)

    def after_fork_in_child(self) -> None:
        self.holds = False
