"""How a run ends: its status, reason and exit code, from what happened to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_sandbox.outcome import StartedState, Survivor
from sandbox_agent_sandbox.protection.finding import PROTECTED

from sandbox_agent.errors import AgentFailed, exit_code_of
from sandbox_agent.exit_codes import ExitCode
from sandbox_agent.journal.events import LENGTH, REFUSED, Ended, ToolCall
from sandbox_agent.journal.state import RunState
from sandbox_agent.journal.status import EXIT_CODES, Status
from sandbox_agent.models import ModelTurn

WINDOW_WORDS = frozenset({"model_length", "model_context_window_exceeded"})
"""Providers' words for a cut that raising `max_tokens` does not help against."""

_SHOWN = 500
"""Characters of a refusal that the reason of a run has."""

_CUT_CALL = (
    "not made: the limit of your output (max_tokens) cut your answer off, so this call may be "
    "incomplete; make it again in smaller parts, such as a long file in several writes"
)


class End(msgspec.Struct, frozen=True):
    """How a run ended. exit_code: None for the usual one of the status. error: that ended it."""

    status: Status
    reason: str
    exit_code: int | None = None
    error: BaseException | None = None

    @property
    def code(self) -> int:
        return int(EXIT_CODES[self.status] if self.exit_code is None else self.exit_code)


class Unmade:
    """The calls of a run that the sandbox could not make. A call that is repeated as it was and
    then made does not count any more."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, bytes], Ended] = {}

    def count(self, calls: Iterable[ToolCall], state: RunState) -> None:
        """Look at the ends of a turn's calls."""
        for call in calls:
            ended = state.calls[call.id].brief
            if ended is None or (ended.made and not self._calls):
                continue
            key = call.tool, msgspec.json.encode(call.arguments, order="sorted")
            if not ended.made:
                self._calls[key] = state.calls[call.id].ended or ended
            elif ended.started is StartedState.YES:
                self._calls.pop(key, None)

    def end(self) -> End | None:
        """The end of a run that would end by itself now; None if all calls were made."""
        if not self._calls:
            return None
        (tool, _), ended = next(iter(self._calls.items()))
        others = f" (and {len(self._calls) - 1} more)" if len(self._calls) > 1 else ""
        what = f"the sandbox could not make {ended.call}, {tool}{others}: {_why(ended)}"
        return End(Status.ERROR, what, ExitCode.SANDBOX)


def verify_unmade(command: str, ended: Ended | None) -> End:
    """The end of a run whose `verify` command could not be started: that is no verdict."""
    why = "" if ended is None else f": {_why(ended)}"
    return End(Status.ERROR, f"verify could not be started: {command}{why}", ExitCode.SANDBOX)


_MISSES = (
    r"No module named"
    r"|(/tmp/|/dev/shm).*(No such file|not found|cannot find)"
    r"|(No such file|not found|cannot find).*(/tmp/|/dev/shm)"
)


def verify_hint(ended: Ended | None) -> str:
    """What to add to the failure of a `verify` command: that it changed what it judges by, or that
    it may have missed what a call installed in a folder of the sandbox's own; "" otherwise."""
    changed = () if ended is None else (one for one in ended.restored if one.what == PROTECTED)
    if path := next((one.path for one in changed), ""):
        return f" (it changed {path}, which is protected)"
    if ended is None or not ended.exit_status:
        return ""
    if ended.exit_status not in (126, 127) and not re.search(_MISSES, ended.content, re.IGNORECASE):
        return ""
    return " (verify does not see what calls left in their home folder, /tmp and /dev/shm)"


def _why(ended: Ended) -> str:
    return " ".join((ended.detail or ended.content).split())


STOPPED = End(Status.INTERRUPTED, "stopped")
"""What the loop of a run returns when the run was stopped; `end_by_stop` then finds the end."""


def end_by_error(error: BaseException) -> End:
    """The end of a run that an error ended."""
    status = Status.FAILED if isinstance(error, AgentFailed) else Status.ERROR
    return End(status, str(error) or repr(error), exit_code_of(error), error)


def end_by_answer(turn: ModelTurn, was_cut_before: bool) -> End | None:
    """The end of a run whose model refused, or could not finish its answer; None if it goes on.

    was_cut_before: the answer before this one was cut off in its only call too. After the first cut
    in a call the model is told, and may write less. Without a call it is not asked again: with the
    same limit, the answer would end in the same place.
    """
    if turn.finish_reason == REFUSED:
        return _refused(turn)
    if turn.finish_reason == LENGTH and len(turn.calls) <= was_cut_before:
        return cut_off(turn)
    return None


def _refused(turn: ModelTurn) -> End:
    said = " ".join(turn.text.split())
    said = said if len(said) <= _SHOWN else f"{said[:_SHOWN]}..."
    if turn.finish_word.lower() == "refusal":
        return End(Status.FAILED, "the model refused" + (f": {said}" if said else ""))
    word = turn.finish_word or turn.finish_reason
    before = f"; before that it said: {said}" if said else ""
    return End(Status.FAILED, f"the provider's filter stopped the model's answer ({word}){before}")


def cut_off(turn: ModelTurn) -> End:
    """The end of a run whose model reached a limit in the middle of its last answer."""
    after = turn.usage.output if turn.usage is not None else 0
    used = f", after {after} tokens" if after else ""
    said = "its text is incomplete" if turn.text.strip() else "it has no text at all"
    if turn.calls:
        said = "its call is incomplete, twice in a row"
    word = "" if turn.finish_word in ("", LENGTH) else f" ({turn.finish_word})"
    if turn.finish_word.lower() in WINDOW_WORDS:
        return End(
            Status.FAILED,
            f"the model's answer was cut off because its context window is full{used}, and "
            f"{said}{word}; start a new run, or resume with a model that has a larger one",
        )
    return End(
        Status.FAILED,
        f"the model's answer was cut off by its length limit{used}, and {said}{word}; raise "
        f"the limit with model.params.max_tokens, and resume",
    )


def not_made(turn: ModelTurn, calls: Sequence[ToolCall]) -> dict[str, str]:
    """Which of the calls of an answer must not be made, by id, with what the model is told.

    A limit that cuts an answer off may have cut its last call, also where what is left of it reads
    like a whole one.
    """
    if turn.finish_reason == LENGTH and calls:
        return {calls[-1].id: _CUT_CALL}
    if turn.finish_reason == REFUSED:
        return {call.id: "not made: the answer that asked for it was refused" for call in calls}
    return {}


def end_by_stop(
    reason: CancelReason, why: str, exit_code: int | None, error: BaseException | None
) -> End:
    """The end of a run whose token was cancelled.

    why, exit_code: as the stop decision has them. error: the first error that stopped the run.
    """
    match reason:
        case CancelReason.BUDGET:
            return End(Status.BUDGET, why)
        case CancelReason.FAILED:
            end = end_by_error(error) if error is not None else End(Status.ERROR, why)
            return msgspec.structs.replace(end, status=Status.ERROR, reason=why or end.reason)
        case _:
            return End(Status.INTERRUPTED, why or reason.value, exit_code)


def with_survivors(end: End, survivors: Iterable[Survivor]) -> End:
    """The end of a run that could not stop these processes: it names them, and is no success."""
    names = "; ".join(f"{survivor.pid} ({survivor.command})" for survivor in survivors)
    if not names:
        return end
    status = Status.ERROR if end.status is Status.DONE else end.status
    reason = f"{end.reason}; could not be stopped: {names}"
    return msgspec.structs.replace(end, status=status, reason=reason, exit_code=ExitCode.SURVIVORS)
