"""How a run ends: its status, reason and exit code, from what happened to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_sandbox.outcome import Survivor

from sandbox_agent.errors import AgentFailed, exit_code_of
from sandbox_agent.exit_codes import ExitCode
from sandbox_agent.journal.status import EXIT_CODES, Status
from sandbox_agent.models import ModelTurn


@dataclass(frozen=True)
class End:
    """How a run ended. exit_code: None for the usual one of the status. error: that ended it."""

    status: Status
    reason: str
    exit_code: int | None = None
    error: BaseException | None = None

    @property
    def code(self) -> int:
        return int(EXIT_CODES[self.status] if self.exit_code is None else self.exit_code)


STOPPED = End(Status.INTERRUPTED, "stopped")
"""What the loop of a run returns when the run was stopped; `end_by_stop` then finds the end."""


def end_by_error(error: BaseException) -> End:
    """The end of a run that an error ended."""
    status = Status.FAILED if isinstance(error, AgentFailed) else Status.ERROR
    return End(status, str(error) or repr(error), exit_code_of(error), error)


def cut_off(turn: ModelTurn) -> End:
    """The end of a run whose model reached its length limit in the middle of its last answer.

    The model is not asked again: with the same limit, the answer would end in the same place.
    """
    after = turn.usage.output if turn.usage is not None else 0
    used = f", after {after} tokens" if after else ""
    said = "its text is incomplete" if turn.text.strip() else "it has no text at all"
    return End(
        Status.FAILED,
        f"the model's answer was cut off by its length limit{used}, and {said}; raise the limit "
        f"with model.params.max_tokens, and resume",
    )


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
            return replace(end, status=Status.ERROR, reason=why or end.reason)
        case _:
            return End(Status.INTERRUPTED, why or reason.value, exit_code)


def with_survivors(end: End, survivors: Iterable[Survivor]) -> End:
    """The end of a run that could not stop these processes: it names them, and is no success."""
    names = "; ".join(f"{survivor.pid} ({survivor.command})" for survivor in survivors)
    if not names:
        return end
    status = Status.ERROR if end.status is Status.DONE else end.status
    reason = f"{end.reason}; could not be stopped: {names}"
    return replace(end, status=status, reason=reason, exit_code=ExitCode.SURVIVORS)
