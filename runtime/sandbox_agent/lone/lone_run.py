"""One call, with its journal and its record, and nothing else: what `exec` does.

It is what a `Conversation` does whose model makes one call, and leaves the same journal and the
same record. It has no model and no turns to take, and one thing to wait for at a time. So it needs
neither tasks nor asyncio.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.cancel_shield import CancelShield
from sandbox_agent_ipc.futures import LoneCancelled, call_soon
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.errors import PolicyError, SandboxError

from sandbox_agent.embedding.control import Control, listen
from sandbox_agent.errors import AgentError, AgentFailed, ConfigError
from sandbox_agent.journal.events import Ended, ToolCall, TurnTaken, UserText
from sandbox_agent.journal.folder import unwritable
from sandbox_agent.journal.result import RunResult
from sandbox_agent.journal.status import Status
from sandbox_agent.journal.usage import Used
from sandbox_agent.lone.opening import Opening
from sandbox_agent.run.call import Request
from sandbox_agent.run.end import STOPPED, End, end_by_error
from sandbox_agent.run.parts import Setup, begin_segment, caller_for
from sandbox_agent.run.record_writer import RecordWriter
from sandbox_agent.run.run_journal import RunJournal
from sandbox_agent.run.sandbox import look_again
from sandbox_agent.tools.registry import Registry, time_for

_CALL = "call_1_1"
"""The id of the only call: of turn 1, the first one."""


class CommandFailed(AgentFailed):
    """The command failed, so the record says that the run failed."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"the command ended with exit code {exit_code}")
        self.exit_code = exit_code


class LoneRun:
    """Made from a setup and the beginning of its sandbox; `run` once, then `close`.

    Any thread and signal handlers may call `interrupt`, any thread `freeze` and `thaw`. token: the
    run token. ended: the end of the call; None while it has none.
    """

    def __init__(self, setup: Setup, opening: Opening) -> None:
        self._setup = setup
        self._opening = opening
        self._host = opening.host
        self._loop = opening.loop
        self._decision = opening.decision
        self.token: RunToken = self._decision.token
        self._journal = RunJournal(setup.recorder, self._decision)
        self._used = Used()
        self._control: Control | None = None
        self._looks_again = self._hurried = False
        self.token.add_callback(partial(call_soon, self._loop, self._journal.record_stop))

    # --- from any thread ---------------------------------------------------------------------

    def interrupt(self, exit_code: int | None = None, why: str = "interrupted") -> None:
        """The first interrupt stops the run, the second one skips the grace period."""
        if self._journal.run_over.is_set():
            return
        self._hurried = self._looks_again
        times = self._decision.count_interrupt()
        if times <= 2:
            # Of two at once, the other may have counted and not stopped the run yet.
            self._decision.stop(CancelReason.INTERRUPT, why, exit_code)
        if times == 2:
            self._host.escalate()

    def freeze(self) -> bool:
        """Stop every process of the call, as Ctrl-Z does a job, until `thaw()`."""
        return self._host.freeze()

    def thaw(self) -> None:
        """Continue what `freeze()` stopped."""
        self._host.thaw()

    # --- in one thread -----------------------------------------------------------------------

    @property
    def ended(self) -> Ended | None:
        """The end of the call, as the journal has it."""
        call = self._journal.state.calls.get(_CALL)
        return None if call is None else call.ended

    def tell(self, text: str) -> None:
        """Write down what is to be done. With that the run's folder is made.

        Raises ConfigError if it cannot be made, NotRecorded if the disk is full or fails.
        """
        recorder = self._setup.recorder
        try:
            recorder.add(UserText, text=text)
        except OSError as error:
            raise unwritable(f"{recorder.folder} cannot be written", error) from None

    def run(self, arguments: Mapping[str, Any], exit_code: Callable[[Ended], int]) -> RunResult:
        """Make the call of the only tool, and write the record. When this returns or raises, its
        processes are gone.

        exit_code: of the call, by its end; the run has failed if it is not 0. Raises ConfigError
        and PolicyError when policy, tool or workspace cannot be used; then nothing was started.
        """
        folder = self._setup.recorder.folder
        self._control = listen(folder, lambda: self.interrupt(why="cancelled from outside"))
        record = RecordWriter(self._setup, 1, self._journal, self._used)
        try:
            return self._run(record, dict(arguments), exit_code)
        finally:
            if self._control is not None:
                self._control.close()
            self._journal.run_over.set()

    def _run(
        self, record: RecordWriter, arguments: dict[str, Any], exit_code: Callable[[Ended], int]
    ) -> RunResult:
        kept: BaseException | None = None
        try:
            end = self._drive(record, arguments, exit_code)
            self._host.begin_close()  # while the record is written
        except BaseException as error:
            kept, end = error, end_by_error(error)
            self._journal.fail(error, f"a bug: {error!r}")
            self._host.drop()  # with the call, if it is still going
        self._looks_again = True  # from now on an interrupt can only hurry
        record.decide(end)
        record.findings = self._loop.run(
            look_again(
                self._host,
                lambda: self._hurried,
                CancelShield(),
                in_haste=self.token.is_cancelled,
            )
        )
        written, error_of_run = record.conclude(end)
        if kept is not None:
            raise kept
        if isinstance(error_of_run, ConfigError | PolicyError):
            raise error_of_run
        return RunResult(written, self._setup.recorder.folder, error_of_run)

    def _drive(
        self, record: RecordWriter, arguments: dict[str, Any], exit_code: Callable[[Ended], int]
    ) -> End:
        try:
            record.write_running()
            registry = self._open()
            if registry is None or self.token.is_cancelled:
                return STOPPED
            self._host.check_folders()
            self._call(record, arguments, registry)
            if self.token.is_cancelled or self.ended is None:
                return STOPPED
            self._host.check_folders()
            code = exit_code(self.ended)
            if code:
                return end_by_error(CommandFailed(code))
            record.message = ""
            self._take_turn(record, 2, final=True)
            self._host.check_folders()
            return End(Status.DONE, "the agent is done")
        except (AgentError, SandboxError) as error:
            return end_by_error(error)

    def _open(self) -> Registry | None:
        """Open the sandbox. None if the run was stopped meanwhile."""
        try:
            return self._opening.finish()
        except LoneCancelled:
            return None
        except Exception:
            # The stop interrupts the sandbox, so an error after it says nothing.
            if self.token.is_cancelled:
                return None
            raise
        finally:
            begin_segment(self._setup, self._journal, 1)

    def _call(self, record: RecordWriter, arguments: dict[str, Any], registry: Registry) -> None:
        [tool] = registry.tools
        token = self.token.child()
        try:
            name = tool.spec.name
            self._take_turn(record, 1, (ToolCall(_CALL, name, arguments),))
            caller = caller_for(self._setup, self._journal)
            time = time_for(tool, arguments, caller.time_limit)
            request = Request(_CALL, name, tool.spec.function, arguments, time)
            self._loop.run(caller.call(request, token))
        finally:
            token.detach()

    def _take_turn(
        self,
        record: RecordWriter,
        number: int,
        calls: tuple[ToolCall, ...] = (),
        *,
        final: bool = False,
    ) -> None:
        self._journal.record(TurnTaken, turn=number, text="", final=final, calls=calls)
        self._used.requests += 1
        record.keep_room()

    def close(self) -> None:
        """Take the sandbox down, and wait until nothing is left of it. Idempotent."""
        recorder = self._setup.recorder
        with recorder.giving_back_room():
            self._opening.close()
        recorder.close()
