"""One run of a conversation, as its conversation sees it: begin, stop, wait, end.

`loop` takes the turns, `record_writer` writes the end. This file makes sure that the end is written
in any case, whether the loop of turns ends, is stopped, fails, or loses its event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.cancel_shield import CancelShield
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.errors import PolicyError

from sandbox_agent.embedding.blocking import call_until_it_returns, in_executor
from sandbox_agent.embedding.control import Control, listen
from sandbox_agent.embedding.home_loop import HomeLoop
from sandbox_agent.errors import ConfigError, StateError
from sandbox_agent.journal.result import RunResult
from sandbox_agent.journal.status import Status, move
from sandbox_agent.run.budget import BudgetTracker
from sandbox_agent.run.call_group import CallGroup
from sandbox_agent.run.end import STOPPED, end_by_error
from sandbox_agent.run.loop import Loop
from sandbox_agent.run.record_writer import RecordWriter
from sandbox_agent.run.run_journal import RunJournal
from sandbox_agent.run.sandbox import NOT_LOOKED, look_again
from sandbox_agent.run.setup import Setup
from sandbox_agent.run.stop_decision import StopDecision

_MARGIN = 1.0
"""Seconds beyond grace and term in which the ladder proves that a call has ended."""


class Run:
    """Made in the event loop that it runs in. `listen`, then await `run`, then `leave`.

    segment: counts the conversation's runs. on_over: called when the run is over. token: the run
    token. status: `running`, then how the run ended.

    `interrupt`, `pause`, `cancel_call`, `wait_stopped` and the properties are for any thread.
    """

    def __init__(self, setup: Setup, segment: int, on_over: Callable[[], object]) -> None:
        self.segment = segment
        self.status = Status.RUNNING
        self._setup = setup
        self._host = setup.host
        self._on_over = on_over
        self._control: Control | None = None
        self._looks_again = self._hurried = False
        limit = setup.settings.budgets.time
        self._decision = StopDecision(None if limit is None else time.monotonic() + limit)
        self.token: RunToken = self._decision.token
        self._home = HomeLoop()
        self._journal = RunJournal(setup.recorder, self._decision)
        self._shield = CancelShield(
            lambda: self._stop(CancelReason.CANCELLED, "the task that ran it was cancelled")
        )
        self._calls = CallGroup(self._journal, setup.settings.parallel, self._home, self._shield)
        budget = BudgetTracker(setup.settings.budgets, setup.model.recorded)
        self._record = RecordWriter(setup, segment, self._journal, budget.used)
        self._loop = Loop(setup, self._journal, self._calls, self._shield, budget, self._record)
        self.token.add_callback(partial(self._home.call_soon, self._on_stopped))

    def listen(self) -> None:
        """Let `sandbox-agent cancel` interrupt the run from another process."""
        self._control = listen(
            self._setup.recorder.folder, lambda: self.interrupt(why="cancelled from outside")
        )

    def stop_listening(self) -> None:
        """Undo `listen`. Harmless without it."""
        if self._control is not None:
            self._control.close()

    # --- from any thread ---------------------------------------------------------------------

    def interrupt(self, exit_code: int | None = None, why: str = "interrupted") -> None:
        """The first interrupt stops the run, the second one skips the grace period."""
        if self.is_over:
            return
        self._hurried = self._looks_again
        match self._decision.count_interrupt():
            case 1:
                self._stop(CancelReason.INTERRUPT, why, exit_code)
            case 2:
                # The first may be another thread's, which has counted but not stopped the run yet.
                self._stop(CancelReason.INTERRUPT, why, exit_code)
                self._escalate()

    def pause(self) -> None:
        """End the run after its current step, unless the run ends before."""
        self._decision.pause_requested = True

    def cancel_call(self, call_id: str) -> bool:
        """Stop one call, queued or in flight. False when no such call is open."""
        return self._calls.cancel(call_id)

    @property
    def is_over(self) -> bool:
        """Whether the run has ended and its record is written."""
        return self._journal.run_over.is_set()

    def wait_stopped(self, timeout: float | None) -> bool:
        """Block until the run is over; see `Conversation.wait_stopped`."""
        if self.is_over:
            return True
        if not self._home.is_this_thread:
            return self._journal.run_over.wait(timeout)
        if not self.token.is_cancelled:
            raise StateError("wait_stopped() in the thread of the run; interrupt() it first")
        cell = self._host.cell
        return cell is None or cell.wait_idle(timeout)

    def _stop(self, reason: CancelReason, why: str, exit_code: int | None = None) -> None:
        self._decision.stop(reason, why, exit_code)

    def _escalate(self) -> None:
        self._host.escalate()
        self._setup.model.escalate()

    # --- in the event loop -------------------------------------------------------------------

    async def run(self) -> RunResult:
        """Run to the end, however it comes; see `Conversation.arun`. `leave` must follow."""
        with self._home.end_if_deserted(self.end_without_loop):
            return await self._drive_and_conclude()

    def leave(self) -> None:
        """Say that the run is over, unless that is said. Nothing is recorded from here on."""
        if self.is_over:
            return
        if self.status is Status.RUNNING:
            self.status = Status.ERROR
        # In this order: a thread that waited for the end may start the next run at once.
        self.stop_listening()
        self._on_over()
        self._journal.run_over.set()

    async def _drive_and_conclude(self) -> RunResult:
        """An exception from outside is kept. The work stops first, the record is written, and then
        the exception is raised."""
        kept: BaseException | None = None
        try:
            end = await self._loop.drive()
        except asyncio.CancelledError as cancellation:
            self._shield.absorb(cancellation)
            end = STOPPED
        except Exception as error:
            kept, end = error, end_by_error(error)
            self._journal.fail(error, f"a bug: {error!r}")
        except GeneratorExit:
            raise
        except BaseException as error:
            # A signal handler raised it in the middle of our code.
            kept, end = error, STOPPED
            self._stop(CancelReason.INTERRUPT, f"interrupted by {type(error).__name__}")
        while True:
            try:
                await self._shield.wait(self._calls.tasks)
                self._looks_again = True  # from now on an interrupt can only hurry
                self._record.decide(end)
                await self._look_again()
                record, error_of_run = self._record.conclude(end)
                break
            except (Exception, GeneratorExit):
                raise
            except BaseException as error:
                # A signal handler again, or a listener that calls sys.exit().
                kept = kept or error
        if not self.is_over:
            self.status = move(self.status, record.status)
        if kept is not None:
            raise kept
        self._shield.raise_cancelled()
        if isinstance(error_of_run, ConfigError | PolicyError):
            raise error_of_run
        return RunResult(record, self._setup.recorder.folder, error_of_run)

    async def _look_again(self) -> None:
        """Look for what tools left in the workspace. All calls have ended, and the run's end is
        decided. A disk that hangs holds this up for some seconds only, and an interrupt ends it."""
        self._record.findings = NOT_LOOKED
        self._record.findings = await look_again(
            self._host, lambda: self._hurried, self._shield, in_haste=self.token.is_cancelled
        )

    def _on_stopped(self) -> None:
        self._loop.wake()
        self._journal.record_stop()

    # --- closing, and the end without an event loop -------------------------------------------

    def close(self) -> None:
        """Stop the run and block until it is over. In the run's own thread, which cannot wait for
        itself, only stop it."""
        if self._stop_to_close():
            if self._home.is_deserted:
                self.end_without_loop()
            elif not self._home.is_this_thread:
                self._journal.run_over.wait(self._patience)

    async def aclose(self, shield: CancelShield) -> None:
        """As `close`, without blocking the event loop. shield: absorbs cancellations meanwhile."""
        if self._stop_to_close():
            wait = partial(self._journal.run_over.wait, self._patience)
            end = self.end_without_loop if self._home.is_deserted else wait
            await shield.wait({in_executor(end)})

    def _stop_to_close(self) -> bool:
        if not self.is_over:
            self._stop(CancelReason.CLOSED, "the conversation was closed")
        return not self.is_over

    @property
    def _patience(self) -> float:
        """Seconds that a stopped run may take. After that, closing the sandbox ends it."""
        interrupt = self._setup.settings.interrupt
        return interrupt.grace + interrupt.term + _MARGIN

    def end_without_loop(self) -> None:
        """End a run whose event loop does not run any more. The ladder needs no event loop.

        Blocks for grace and term at most; then the sandbox is closed. What a call printed last is
        lost with the loop, so its outcome is `unknown`. An exception of a signal handler skips the
        grace period and is raised at the end. In a forked child this does nothing: the run belongs
        to the parent.
        """
        if not self._home.is_forked_copy:
            call_until_it_returns(self._end_without_loop, self._escalate)

    def _end_without_loop(self) -> None:
        if self.is_over:
            return
        self._stop(CancelReason.CLOSED, "its event loop was closed")
        cell = self._host.cell
        if cell is not None and not cell.wait_idle(self._patience):
            self._host.drop()
        self._calls.abandon()
        self._record.findings = self._host.look_again_now()
        self.status = self._record.conclude(STOPPED)[0].status
        self.leave()
