"""A model that repeats the answers of a recorded run: no key, no network, no cost.

Each request gets the next recorded turn, also after an interrupt and in another process. The
position is the number of answers in the history, so the model has no state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox_agent_ipc.messages import ToolSpec
from sandbox_agent_ipc.token import CancelToken
from sandbox_agent_sandbox.outcome import Outcome

from sandbox_agent.errors import AgentFailed
from sandbox_agent.journal.events import TurnTaken
from sandbox_agent.journal.history import (
    AssistantMessage,
    Message,
    ToolMessage,
    UserMessage,
    answers_in,
)
from sandbox_agent.journal.recording import RecordedSegments, Recording, Verdict, read_recording
from sandbox_agent.journal.state import RunState
from sandbox_agent.journal.status import Status
from sandbox_agent.models import STOPPED, Model, ModelCall, ModelTurn, OnDelta, divergence

_ENDS: dict[str | None, str] = {
    None: "it has no end: it is still running, or its agent was killed",
    Status.DONE: "it was done",
    Status.FAILED: "it had failed",
    Status.BUDGET: "it had spent a budget",
    Status.INTERRUPTED: "it was interrupted",
    Status.PAUSED: "it was paused",
}


class ReplayModel(Model):
    """See the module. Made by `load_replay`.

    check: compare the results of each turn with the recorded ones, and end the run as failed at the
    first difference. Results of calls that were stopped from outside are not compared.
    """

    def __init__(self, recording: Recording, *, check: bool = False) -> None:
        self.recording = recording
        self.check = check

    @property
    def name(self) -> str:
        return f"replay:{self.recording.run}"

    @property
    def options(self) -> dict[str, Any]:
        check = {"check": True} if self.check else {}
        return {"folder": str(self.recording.folder), **check}

    @property
    def recorded(self) -> RecordedSegments | None:
        return self.recording.segments

    async def complete(
        self,
        history: Sequence[Message],
        tools: Sequence[ToolSpec],
        token: CancelToken,
        on_delta: OnDelta,
    ) -> ModelTurn:
        """The next recorded turn. Raises AgentFailed if there is none; with `check` also if the
        user's messages after the last turn differ from the recorded ones."""
        turns = self.recording.turns
        taken = answers_in(history)
        if self.check and 0 < taken <= len(turns):
            self._compare_user_messages(taken, history)
        if taken >= len(turns):
            now = {m.call_id: m.outcome for m in history if isinstance(m, ToolMessage)}
            so_far = "1 turn" if len(turns) == 1 else f"{len(turns)} turns"
            raise AgentFailed(
                f"{self.name}: the recorded run ends here, after {so_far}: "
                f"{self._end()}{self._not_compared(now)}"
            )
        return _model_turn(turns[taken])

    def user_messages(self, turn: int) -> tuple[str, ...]:
        return tuple(self.recording.user_messages.get(turn, ()))

    def review(self, state: RunState) -> str:
        """With `check`: compares the results of the last turn. Raises AgentFailed at the first
        difference, and names turn and call."""
        if not self.check or not 0 < state.turns <= len(self.recording.turns):
            return ""
        if self.recording.turns[state.turns - 1].calls:
            self._compare_calls(state, state.turns)
            return ""
        # A run that was resumed after a difference must not end as one without a difference.
        for turn in range(1, state.turns):
            self._compare_calls(state, turn)
        self._compare_verdicts(state)
        now = {call.id: call.ended.outcome for call in state.calls.values() if call.ended}
        return f"; results are as recorded{self._not_compared(now)}"

    def _not_compared(self, now: Mapping[str, Outcome]) -> str:
        """Says how many calls were stopped. now: the outcomes of all calls, by id."""
        stopped = sum(
            bool({self.recording.end_of(call.id).outcome, now.get(call.id)} & STOPPED)
            for turn in self.recording.turns
            for call in turn.calls
            if call.id in now
        )
        if not self.check or not stopped:
            return ""
        if stopped == 1:
            return "; 1 call was stopped and not compared"
        return f"; {stopped} calls were stopped and not compared"

    def _compare_calls(self, state: RunState, turn: int) -> None:
        for asked in self.recording.turns[turn - 1].calls:
            call = state.calls.get(asked.id)
            if call is None or call.ended is None:
                continue  # The turn of another model, in a run that this model resumed.
            found = divergence.of_results(self.recording.end_of(asked.id), call.ended)
            if found is not None:
                self._diverged(turn, f"{asked.id}, {divergence.call_text(asked)}", found)

    def _compare_verdicts(self, state: RunState) -> None:
        recorded = self.recording.verdicts.get(state.turns, {})
        for verified in state.verified:
            then, ended = recorded.get(verified.command), state.calls[verified.call].ended
            if then is None or ended is None:
                continue  # `verify` was changed since.
            found = divergence.of_verdicts(then, Verdict(verified.passed, ended))
            if found is not None:
                self._diverged(state.turns, f"verify {verified.command!r}", found)

    def _compare_user_messages(self, turn: int, history: Sequence[Message]) -> None:
        now: list[str] = []
        for message in reversed(history):
            if isinstance(message, AssistantMessage):
                break
            if isinstance(message, UserMessage):
                now.insert(0, message.text)
        found = divergence.of_texts(self.user_messages(turn), tuple(now))
        if found is not None:
            self._diverged(turn, "the user's messages after it", found)

    def _diverged(self, turn: int, what: str, found: str) -> None:
        raise AgentFailed(f"{self.name} diverges at turn {turn}, {what}: {found}")

    def _end(self) -> str:
        end = self.recording.state.segment_end
        if end is None:
            return _ENDS[None]
        words = _ENDS.get(end.status, "it ended with an error")
        return f"{words} ({divergence.excerpt(end.reason)})" if end.reason else words


def load_replay(path: Path | str, check: bool = False) -> ReplayModel:
    """The model that replays a recorded run.

    path: of the run's folder, or of the journal in it. check: see `ReplayModel`. Raises ConfigError
    if it cannot be read, JournalError if it is damaged or of another version.
    """
    return ReplayModel(read_recording(path), check=check)


def _model_turn(turn: TurnTaken) -> ModelTurn:
    return ModelTurn(
        text=turn.text,
        calls=tuple(
            ModelCall(call.tool, call.arguments, call.provider_state) for call in turn.calls
        ),
        final=turn.final,
        reasoning=turn.reasoning,
        provider_state=turn.provider_state,
        usage=turn.usage,
        finish_reason=turn.finish_reason,
        finish_word=turn.finish_word,
    )
