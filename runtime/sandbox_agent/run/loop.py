"""One run of a conversation: model, calls, model, calls, until it is over.

`drive` is the loop and says how it ended; `finish` makes sure that nothing is left and writes the
record. Nothing in the second depends on the first having ended well.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

import msgspec
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.cancel_shield import CancelShield
from sandbox_agent_ipc.token import Cancelled
from sandbox_agent_sandbox.errors import SandboxError

from sandbox_agent.embedding.warn import complain
from sandbox_agent.errors import AgentError, ModelError
from sandbox_agent.journal.events import (
    LENGTH,
    Asked,
    SegmentEnded,
    SegmentStarted,
    ToolEntry,
    TurnTaken,
    wall_clock,
)
from sandbox_agent.journal.result_file import (
    Record,
    Times,
    Usage,
    calls_of,
    verified_of,
    write_record,
)
from sandbox_agent.journal.status import Status
from sandbox_agent.models import ModelCall, ModelDelta, ModelTurn
from sandbox_agent.run.budget import BudgetTracker
from sandbox_agent.run.call import Caller
from sandbox_agent.run.call_group import CallGroup
from sandbox_agent.run.end import STOPPED, End, cut_off, end_by_error, end_by_stop, with_survivors
from sandbox_agent.run.run_journal import RunJournal
from sandbox_agent.run.setup import Setup
from sandbox_agent.run.stop_decision import StopDecision
from sandbox_agent.run.time_budget import time_budget
from sandbox_agent.tools.registry import Registry

_MARGIN = 1.0
"""Seconds beyond grace and term in which the ladder proves that a call has ended."""

_MODEL_MARGIN = 0.1
"""Seconds beyond grace and term that a model has to end a request that nobody wants any more."""


class Run:
    """See the module. `stopping`, `interrupt` and `cancel_call` are for any thread."""

    def __init__(self, setup: Setup, segment: int) -> None:
        self._setup = setup
        self._host = setup.host
        self._state = setup.recorder.state
        self._segment = segment
        self._begun = time.monotonic()
        self._times = Times(wall_clock())
        budget = setup.budgets.time
        self.stopping = StopDecision(None if budget is None else self._begun + budget)
        self.token = self.stopping.token
        self.pid, self.thread = os.getpid(), threading.get_ident()
        self.ledger = RunJournal(setup.recorder, self.stopping)
        self.shield = CancelShield(self._task_cancelled)
        self._crew = CallGroup(self.ledger, setup.parallel, self.shield)
        self._loop = asyncio.get_running_loop()
        self._woken: asyncio.Future[None] = self._loop.create_future()
        self._bounds = BudgetTracker(setup.budgets, setup.model.recorded)
        self._on_delta = setup.on_delta
        self._calls_before = len(self._state.calls)
        # Said by a segment that ended before it was judged; then `verify` is what is left to do.
        self._message = self._state.final_words()
        self._end: End | None = None
        self.token.add_callback(lambda: self.ledger.soon(self._on_stopped))

    # --- from any thread ---------------------------------------------------------------------

    def interrupt(self, exit_code: int | None = None, why: str = "interrupted") -> None:
        """The first stops the run, the second has the sandbox skip the grace period."""
        if self.ledger.over.is_set():
            return
        match self.stopping.count_interrupt():
            case 1:
                self.stopping.stop(CancelReason.INTERRUPT, why, exit_code)
            case 2:
                # The first may be another thread's that has not come to it yet.
                self.stopping.stop(CancelReason.INTERRUPT, why, exit_code)
                self._host.escalate()
                self._setup.model.escalate()

    def pause(self) -> None:
        """End the run after the step that it is at, unless it ends by itself before."""
        self.stopping.pausing = True

    def cancel_call(self, call_id: str) -> bool:
        """Stop one call, queued or in flight. False when there is none of this id."""
        return self._crew.cancel(call_id)

    def _task_cancelled(self) -> None:
        self.stopping.stop(CancelReason.CANCELLED, "the task that ran it was cancelled")

    # --- the loop ----------------------------------------------------------------------------

    async def drive(self) -> End:
        """Run until there is an end. What it raises is a bug."""
        try:
            with time_budget(self._setup.budgets.time, self._spend_time):
                self._write_record(self._record(End(Status.RUNNING, "")))
                self._setup.model.start(self._host.walls.interrupt)
                return await self._steps()
        except (AgentError, SandboxError) as error:
            return end_by_error(error)

    def _spend_time(self) -> None:
        why = f"the budget of {self._setup.budgets.time:g} seconds is spent"
        self.stopping.stop(CancelReason.BUDGET, why)

    async def _steps(self) -> End:
        registry = await self._open()
        if registry is None:
            return STOPPED
        if self._message is not None and not self._state.unanswered():
            return await self._verify()
        self._message = None
        while not self.token.is_cancelled:
            if self.stopping.pausing:
                return End(Status.PAUSED, "paused between two steps")
            if (why := self._bounds.spent()) is not None:
                self.stopping.stop(CancelReason.BUDGET, why)
                break
            turn = await self._ask(registry)
            if turn is None:
                break
            calls, number = self._take(turn), self._state.turns
            if calls:
                await self._crew.make(calls, self._caller(), registry)
                self._setup.model.review(self._state)
                await self._sync()
            elif turn.final or turn.finish == LENGTH:
                if self._state.unanswered() or self._bounds.resumed_after(number):
                    self._message = None  # They were not the last words.
                    continue
                return await self._verify() if turn.final else cut_off(turn)
            results = self._state.results(calls)
            why = self._bounds.repeats(number, turn.text, calls, results, self._state.heard)
            if why is not None:
                return End(Status.FAILED, why)
        return STOPPED

    async def _open(self) -> Registry | None:
        """Have a sandbox and its tools. None when the run was stopped meanwhile."""
        opening = self._crew.spawn(self._host.open(self.token))
        try:
            await self.shield.wait({opening, self._woken}, first=True)
            if not opening.done():
                await self._give_up(opening)
            if not opening.done() or opening.cancelled():
                return None
            registry = opening.result()
        except Exception:
            # Stopped while it looked at the tools: whatever that led to is the stop's doing.
            if self.token.is_cancelled:
                return None
            raise
        finally:
            self._begin_segment()
        return registry

    async def _give_up(self, opening: asyncio.Task[Registry]) -> None:
        interrupt = self._host.walls.interrupt
        opening.cancel()
        if await self.shield.wait({opening}, timeout=interrupt.grace + interrupt.term):
            return
        # Closing takes away what it waits for. It blocks, but nothing else is going on here.
        self._host.drop()
        await self.shield.wait({opening}, timeout=1)

    def _begin_segment(self) -> None:
        registry = self._host.registry
        tools = registry.tools if registry is not None else ()
        self.ledger.record(
            SegmentStarted,
            n=self._segment,
            pid=os.getpid(),
            tools=tuple(ToolEntry(tool.spec, tool.timeout) for tool in tools),
            plan=self._host.plan_summary(),
            **msgspec.structs.asdict(self._setup.settings),
        )

    async def _ask(self, registry: Registry) -> ModelTurn | None:
        """The model's next turn. None when the run was stopped before it came."""
        model = self._setup.model
        history, specs = self._state.history(), registry.specs
        asking = self._crew.spawn(model.complete(history, specs, self.token, self._tell))
        await self.shield.wait({asking, self._woken}, first=True)
        if not asking.done():
            asking.cancel()
            interrupt = self._host.walls.interrupt
            limit = interrupt.grace + interrupt.term + _MODEL_MARGIN
            if not await self.shield.wait({asking}, timeout=limit):
                # It runs no tool, so leaving it behind breaks no promise; waiting for it would.
                complain(f"model {model.name} does not stop when cancelled; it was left behind")
                self._crew.tasks.discard(asking)
        if (lost := model.take_lost()) is not None:
            self._bounds.count_lost(lost)
        if not asking.done() or asking.cancelled():
            return None
        try:
            return asking.result()
        except Cancelled:
            return None  # A model that looks at its token, as a tool would.
        except (AgentError, SandboxError):
            raise
        except Exception as error:
            raise ModelError(f"model {model.name} failed: {error!r}") from error

    def _tell(self, delta: ModelDelta) -> None:
        if self._on_delta is None or self.token.is_cancelled:
            return
        try:
            self._on_delta(delta)
        except Exception as error:
            self._on_delta = None  # Once is enough: pieces come in thousands.
            complain(f"on_delta raised {error!r}; it hears no more of this run")

    def _take(self, turn: ModelTurn) -> tuple[Asked, ...]:
        """Write the turn down. From here on each of its calls gets an end, whatever happens."""
        number = self._state.turns + 1
        calls = tuple(
            _asked(f"call_{number}_{place}", call) for place, call in enumerate(turn.calls, 1)
        )
        for call in calls:
            self._crew.expect(call.id)
        text = _encodable(turn.text)
        if turn.final and not calls:
            self._message = text
        self.ledger.record(
            TurnTaken,
            turn=number,
            text=text,
            final=turn.final,
            calls=calls,
            reasoning=_encodable(turn.reasoning),
            provider_state=turn.provider_state,
            usage=turn.usage,
            finish=_encodable(turn.finish),
            starts_segment=self._bounds.starts_segment(number),
        )
        try:
            self._bounds.count(turn, number, self._setup.model.name)
        except ModelError as error:
            self.ledger.fail(error)  # So its calls are skipped.
        return calls

    async def _sync(self) -> None:
        if not self._setup.durable or self.token.is_cancelled:
            return
        syncing = self._loop.run_in_executor(None, self._setup.recorder.sync)
        await self.shield.wait({syncing})
        error = syncing.exception()
        if isinstance(error, OSError):
            self.ledger.fail(error, f"the journal cannot be written: {error}")

    async def _verify(self) -> End:
        caller, failed = self._caller(), []
        for place, command in enumerate(self._setup.verify, 1):
            if self.token.is_cancelled:
                return STOPPED
            call_id = f"verify_{self._segment}_{place}"
            if not await self._crew.verify(call_id, command, caller):
                failed.append(command)
        remark = self._setup.model.review(self._state)
        if failed:
            return End(Status.FAILED, "verify failed: " + "; ".join(failed) + remark)
        verified = ", and verify agrees" if self._setup.verify else ""
        return End(Status.DONE, f"the agent is done{verified}{remark}")

    def _caller(self) -> Caller:
        cell, limits = self._host.cell, self._host.walls.policy.limits
        assert cell is not None
        return Caller(
            cell=cell,
            ledger=self.ledger,
            folder=self._setup.recorder.folder,
            workspace=self._host.walls.workspace,
            output_limit=limits.output,
            time_limit=limits.timeout,
            on_output=self._setup.on_output,
            separate_output=self._setup.separate_output,
        )

    # --- the end -----------------------------------------------------------------------------

    async def finish(self, end: End) -> tuple[Record, BaseException | None]:
        """Wait for what is left, decide the end, write it down.

        Returns the record, and what went wrong if something did. After an exception of a signal
        handler or a listener it may be called again, and goes on from there.
        """
        await self.shield.wait(self._crew.tasks)
        return self._conclude(end)

    def finish_without_loop(self) -> Record:
        """The same where the run's loop goes no more: the ladder needs none.

        Blocks until the processes of its calls are gone; for grace and term at most, after which
        the sandbox is closed. What a call said last is lost with the loop: its outcome is unknown.
        """
        self.stopping.stop(CancelReason.CLOSED, "its event loop was closed")
        cell, interrupt = self._host.cell, self._host.walls.interrupt
        if cell is not None and not cell.wait_idle(interrupt.grace + interrupt.term + _MARGIN):
            self._host.drop()
        self._crew.desert()
        return self._conclude(STOPPED)[0]

    @property
    def deserted(self) -> bool:
        """Whether its loop goes no more: closed, or left by the thread that asks."""
        left = self.thread == threading.get_ident() and not self._loop.is_running()
        return left or self._loop.is_closed()

    def _conclude(self, end: End) -> tuple[Record, BaseException | None]:
        self._setup.recorder.end_open_calls(self.ledger.record)
        if self._end is None:
            self._end = self._decide(end)
        self.ledger.note_stop()
        record = self._record(self._end)
        told = self._state.segment_end
        if told is None or told.n != self._segment:
            self._tell_end(self._end, record)
        self._write_record(record)
        if self.ledger.trouble is not None and record.status is not Status.ERROR:
            # The disk failed us after the end was decided. The caller at least learns of it.
            why = f"the record cannot be written: {self.ledger.trouble}"
            record = self._record(End(Status.ERROR, why))
        return record, self._end.error or self.ledger.trouble

    def _decide(self, end: End) -> End:
        stopping = self.stopping
        reason = stopping.let_end()
        # From here on nobody can stop the run any more; what is written now is what it was.
        self._times = self._times.ending(time.monotonic() - self._begun)
        if reason is None:
            return end
        return end_by_stop(reason, stopping.why, stopping.exit_code, self.ledger.trouble)

    def _tell_end(self, end: End, record: Record) -> None:
        self.ledger.record(
            SegmentEnded,
            n=self._segment,
            status=record.status.value,
            exit_code=end.code if record.exit_code is None else record.exit_code,
            reason=record.reason,
            requests=record.usage.requests,
            calls=record.usage.calls,
            seconds=record.times.seconds,
            survivors=record.survivors,
            usage=self._bounds.used.usage,
        )

    def _record(self, end: End) -> Record:
        calls = list(self._state.calls.values())[self._calls_before :]
        survivors = tuple(
            survivor for call in calls if call.ended for survivor in call.ended.survivors
        )
        end, used = with_survivors(end, survivors), self._bounds.used
        return Record(
            run=self._setup.recorder.folder.name,
            task=self._setup.name,
            status=end.status,
            exit_code=None if end.status is Status.RUNNING else end.code,
            reason=end.reason,
            pid=os.getpid(),
            segment=self._segment,
            model=self._setup.model.name,
            workspace=str(self._host.walls.workspace),
            times=self._times,
            usage=Usage(
                used.requests,
                sum(not call.verify for call in calls),
                used.tokens,
                used.cost_usd,
            ),
            message=self._message,
            verify=verified_of(self._state),
            survivors=survivors,
            calls=calls_of(self._state),
            plan=self._host.plan_summary(),
        )

    def _write_record(self, record: Record) -> None:
        try:
            write_record(self._setup.recorder.folder, record, durable=self._setup.durable)
        except OSError as error:
            self.ledger.fail(error, f"the record cannot be written: {error}")

    def _on_stopped(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)
        self.ledger.note_stop()


def _asked(call_id: str, call: ModelCall) -> Asked:
    """A model's call as the journal can hold it: what is not JSON is passed on as text, and its
    call ends as an error that names it."""
    arguments: dict[str, Any] | str
    try:
        arguments = msgspec.json.decode(msgspec.json.encode(call.arguments))
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        arguments = _encodable(repr(call.arguments))
    if not isinstance(arguments, dict | str):
        arguments = _encodable(repr(call.arguments))
    return Asked(call_id, _encodable(call.name), arguments, call.provider_state)


def _encodable(text: str) -> str:
    """Half characters (lone surrogates), which are no UTF-8, replaced."""
    return text.encode("utf-8", "replace").decode()
