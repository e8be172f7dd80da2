"""The loop of one run: ask the model, make its calls, ask again, until there is an end.

What ends a run that was stopped, and what is written at the end, is not decided here; see `run`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import msgspec
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_ipc.cancel_shield import CancelShield
from sandbox_agent_ipc.token import Cancelled
from sandbox_agent_sandbox.errors import SandboxError
from sandbox_agent_sandbox.utf8 import without_surrogates

from sandbox_agent.embedding.blocking import in_executor
from sandbox_agent.embedding.warn import complain
from sandbox_agent.errors import AgentError, AgentFailed, ModelError
from sandbox_agent.exit_codes import ExitCode
from sandbox_agent.instructions.told import tell
from sandbox_agent.journal.events import LENGTH, AgentsFile, ToolCall, TurnTaken
from sandbox_agent.journal.recording import RecordedSegments
from sandbox_agent.journal.status import Status
from sandbox_agent.models import ModelCall, ModelDelta, ModelTurn
from sandbox_agent.run.budget import BudgetTracker
from sandbox_agent.run.call import Caller
from sandbox_agent.run.call_group import CallGroup
from sandbox_agent.run.end import (
    STOPPED,
    End,
    Unmade,
    end_by_answer,
    end_by_error,
    not_made,
    verify_hint,
    verify_unmade,
)
from sandbox_agent.run.parts import Setup, begin_segment, caller_for
from sandbox_agent.run.record_writer import RecordWriter
from sandbox_agent.run.run_journal import RunJournal, not_written
from sandbox_agent.run.time_budget import time_budget
from sandbox_agent.tools.arguments import recordable, recordable_name
from sandbox_agent.tools.registry import Registry

if TYPE_CHECKING:
    from sandbox_agent.config.settings import Settings

_MODEL_MARGIN = 0.1
"""Seconds beyond grace and term in which a model has to end a request that was cancelled."""


class Loop:
    """The loop of one run. All in its event loop, in the task that awaits `run`."""

    def __init__(
        self,
        setup: Setup,
        journal: RunJournal,
        calls: CallGroup,
        shield: CancelShield,
        budget: BudgetTracker,
        record: RecordWriter,
    ) -> None:
        self._setup = setup
        self._settings = cast("Settings", setup.settings)  # of a `Conversation`
        self._host = setup.host
        self._journal = journal
        self._state = journal.state
        self._decision = journal.decision
        self._token = journal.decision.token
        self._calls = calls
        self._shield = shield
        self._budget = budget
        self._recorded = setup.model.recorded or RecordedSegments()
        self._record = record
        self._unmade = Unmade()
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_delta = setup.callbacks.on_delta
        self._agents_md: AgentsFile | None = None
        self._was_cut = False
        """The last answer was cut off in its only call."""

    def wake(self) -> None:
        """Stop waiting for the sandbox or the model: the run was stopped."""
        if not self._stopped.done():
            self._stopped.set_result(None)

    async def drive(self) -> End:
        """Take turns until there is an end, and return it. An Exception from here is a bug."""
        try:
            with time_budget(self._setup.settings.budgets.time, self._spend_time):
                self._host.begin()
                self._record.write_running()
                self._setup.model.start(self._settings.interrupt)
                return await self._turns()
        except AgentFailed as error:
            end = end_by_error(error)
            return (self._unmade.end() or end) if end.code == ExitCode.FAILED else end
        except (AgentError, SandboxError) as error:
            return end_by_error(error)

    def _spend_time(self) -> None:
        why = f"the budget of {self._setup.settings.budgets.time:g} seconds is spent"
        self._decision.stop(CancelReason.BUDGET, why)

    async def _turns(self) -> End:
        setup, folder = self._setup, self._setup.recorder.folder
        self._agents_md = tell(setup.model, self._settings, folder, self._state)
        registry = await self._open()
        if registry is None:
            return STOPPED
        self._clean_up_after_killed_agent(registry)
        if self._record.message is not None and not self._state.unanswered():
            return await self._verify()
        self._record.message = None
        while not self._token.is_cancelled:
            if self._decision.pause_requested:
                return End(Status.PAUSED, "paused between two steps")
            if (why := self._budget.spent()) is not None:
                self._decision.stop(CancelReason.BUDGET, why)
                break
            self._host.check_folders()
            turn = await self._ask(registry)
            if turn is None:
                break
            calls, number = self._record_turn(turn), self._state.turns
            if calls:
                unmade = not_made(turn, calls)
                await self._calls.make(calls, self._caller(), registry, unmade)
                self._unmade.count(calls, self._state)
                self._setup.model.review(self._state)
                await self._sync()
            end = end_by_answer(turn, self._was_cut)
            self._was_cut = turn.finish_reason == LENGTH and len(calls) == 1
            if end is not None or (turn.final and not calls):
                if self._state.unanswered() or number in self._recorded.resumed_after:
                    self._record.message = None  # The conversation goes on after it.
                    continue
                return end or await self._verify()
            results = self._state.results(calls)
            why = self._budget.repeats(number, turn.text, calls, results, self._state.user_messages)
            if why is not None:
                return self._unmade.end() or End(Status.FAILED, why)
        return STOPPED

    async def _open(self) -> Registry | None:
        """Open the sandbox and look at its tools. None when the run was stopped meanwhile."""
        opening = self._calls.spawn(self._host.open(self._token))
        try:
            await self._shield.wait({opening, self._stopped}, first=True)
            if not opening.done():
                await self._give_up(opening)
            if not opening.done() or opening.cancelled():
                return None
            registry = opening.result()
        except Exception:
            # The stop interrupts the sandbox, so an error after it says nothing.
            if self._token.is_cancelled:
                return None
            raise
        finally:
            begin_segment(self._setup, self._journal, self._record.segment, self._agents_md)
        return registry

    async def _give_up(self, opening: asyncio.Task[Registry]) -> None:
        interrupt = self._setup.settings.interrupt
        opening.cancel()
        if await self._shield.wait({opening}, timeout=interrupt.grace + interrupt.term):
            return
        # Closing the sandbox ends what `opening` waits for. It blocks the event loop, in which
        # nothing else of this run is going on.
        self._host.drop()
        await self._shield.wait({opening}, timeout=1)

    def _clean_up_after_killed_agent(self, registry: Registry) -> None:
        """Remove temporary files of calls that were in flight when an agent was killed: those of
        the last turn."""
        asked = self._state.conversation
        turn = next((event for event in reversed(asked) if isinstance(event, TurnTaken)), None)
        for call in turn.calls if turn is not None else ():
            tool, ended = registry.get(call.tool), self._state.calls[call.id].ended
            if tool is not None and ended is not None:
                self._caller().clean_up(tool.spec.function, ended.outcome, call.arguments)

    async def _ask(self, registry: Registry) -> ModelTurn | None:
        """Ask the model for its next turn. None when the run was stopped before it came."""
        model = self._setup.model
        history, specs = self._state.history(), registry.specs
        asking = self._calls.spawn(model.complete(history, specs, self._token, self._pass_on))
        await self._shield.wait({asking, self._stopped}, first=True)
        if not asking.done():
            asking.cancel()
            interrupt = self._setup.settings.interrupt
            limit = interrupt.grace + interrupt.term + _MODEL_MARGIN
            if not await self._shield.wait({asking}, timeout=limit):
                # A model runs no tool, so leaving it behind breaks no promise. Waiting for it
                # would break the bound on how long an interrupt takes.
                complain(f"model {model.name} does not stop when cancelled; it was left behind")
                self._calls.tasks.discard(asking)
        if (lost := model.take_lost()) is not None:
            self._budget.count_lost(lost)
        if not asking.done() or asking.cancelled():
            return None
        try:
            return _checked(asking.result())
        except Cancelled:
            return None  # The model looked at its token, as a tool would.
        except (AgentError, SandboxError):
            raise
        except Exception as error:
            raise ModelError(f"model {model.name} failed: {error!r}") from error

    def _pass_on(self, delta: ModelDelta) -> None:
        if self._on_delta is None or self._token.is_cancelled:
            return
        try:
            self._on_delta(delta)
        except Exception as error:
            self._on_delta = None  # One warning is enough: there are thousands of pieces.
            complain(f"on_delta raised {error!r}; it is not called any more in this run")

    def _record_turn(self, turn: ModelTurn) -> tuple[ToolCall, ...]:
        """Write the turn into the journal. From here on each of its calls gets an end."""
        number = self._state.turns + 1
        calls = tuple(
            _asked(f"call_{number}_{place}", call) for place, call in enumerate(turn.calls, 1)
        )
        for call in calls:
            self._calls.new_token(call.id)
        if turn.final and not calls:
            self._record.message = self._state.words_before_pause() + turn.text
        self._journal.record(
            TurnTaken,
            turn=number,
            text=turn.text,
            final=turn.final,
            calls=calls,
            reasoning=turn.reasoning,
            provider_state=turn.provider_state,
            usage=turn.usage,
            finish_reason=turn.finish_reason,
            finish_word=turn.finish_word,
            starts_segment=self._recorded.starts_segment(number),
        )
        try:
            self._budget.count(turn, number, self._setup.model.name)
        except ModelError as error:
            self._journal.fail(error)  # The run is stopped, so the calls are skipped.
        self._record.keep_room()
        return calls

    async def _sync(self) -> None:
        if not self._setup.callbacks.durable or self._token.is_cancelled:
            return
        syncing = in_executor(self._setup.recorder.sync)
        await self._shield.wait({syncing})
        error = syncing.exception()
        if isinstance(error, OSError):
            self._journal.fail(not_written("the journal", error))

    async def _verify(self) -> End:
        self._host.check_folders()
        if (end := self._unmade.end()) is not None:
            return end
        if self._setup.settings.verify and self._host.is_shut():
            where = self._setup.settings.workspace.path
            why = f"verify could not be started: tools may not enter {where}"
            return End(Status.ERROR, f"{why}; hint: chmod u+rwx {where}", ExitCode.SANDBOX)
        caller, failed, hint = self._caller(), [], ""
        for place, command in enumerate(self._setup.settings.verify, 1):
            if self._token.is_cancelled:
                return STOPPED
            call_id = f"verify_{self._record.segment}_{place}"
            passed = await self._calls.verify(call_id, command, caller)
            if passed is None:
                return verify_unmade(command, self._state.calls[call_id].ended)
            if not passed:
                failed.append(command)
                call = self._state.calls.get(call_id)  # None if it was stopped before it began
                hint = hint or verify_hint(None if call is None else call.ended)
        remark = self._setup.model.review(self._state)
        if failed:
            return End(Status.FAILED, "verify failed: " + "; ".join(failed) + hint + remark)
        verified = ", and verify agrees" if self._setup.settings.verify else ""
        return End(Status.DONE, f"the agent is done{verified}{remark}")

    def _caller(self) -> Caller:
        return caller_for(self._setup, self._journal)


def _checked(turn: ModelTurn) -> ModelTurn:
    """The answer as the journal can hold it. A model of a program's own may give anything: what is
    no answer raises TypeError or ValueError. Arguments of calls are checked call by call."""
    bare = msgspec.structs.replace(turn, calls=())
    msgspec.convert(msgspec.to_builtins(bare), ModelTurn)
    for call in turn.calls:
        if not isinstance(call, ModelCall) or not isinstance(call.name, str):
            raise TypeError(f"{call!r} is no ModelCall with a name")
    states = [turn.provider_state, *(call.provider_state for call in turn.calls)]
    msgspec.json.encode((states, turn.usage))
    texts = ("text", "reasoning", "finish_reason", "finish_word")
    cleaned = {name: without_surrogates(getattr(turn, name)) for name in texts}
    return msgspec.structs.replace(turn, **cleaned)


def _asked(call_id: str, call: ModelCall) -> ToolCall:
    """A model's call as the journal can hold it."""
    arguments = recordable(call.arguments)
    return ToolCall(call_id, recordable_name(call.name), arguments, call.provider_state)
