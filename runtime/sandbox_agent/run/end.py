"""How runs end: the one end of a run, from what happened and from who stopped it."""

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
    """How a run ended. exit_code: where it is not the status's usual one."""

    status: Status
    reason: str
    exit_code: int | None = None
    error: BaseException | None = None

    @property
    def code(self) -> int:
        return int(EXIT_CODES[self.status] if self.exit_code is None else self.exit_code)


STOPPED = End(Status.INTERRUPTED, "stopped")
"""What the loop of a run says when it was stopped. By whom, is said by the token."""


def end_by_error(error: BaseException) -> End:
    """The end of a run that an error ended."""
    status = Status.FAILED if isinstance(error, AgentFailed) else Status.ERROR
    return End(status, str(error) or repr(error), exit_code_of(error), error)


def cut_off(turn: ModelTurn) -> End:
    """The end of a run whose model was cut off in the middle of its answer. It is asked again by
    whoever gives it more room, and not by us: at the same limit it would end in the same place."""
    after = turn.usage.output if turn.usage is not None else 0
    used = f", after {after} tokens" if after else ""
    said = "what it says is not the end" if turn.text.strip() else "it came to say nothing at all"
    return End(
        Status.FAILED,
        f"the model's answer was cut off by the limit of its length{used}, and {said}; give it "
        f"more room with model.params.max_tokens, and resume",
    )


def end_by_stop(
    reason: CancelReason, why: str, exit_code: int | None, trouble: BaseException | None
) -> End:
    """The end of a run whose token was cancelled. why, exit_code: as whoever did it said."""
    match reason:
        case CancelReason.BUDGET:
            return End(Status.BUDGET, why)
        case CancelReason.FAILED:
            end = end_by_error(trouble) if trouble is not None else End(Status.ERROR, why)
            return replace(end, status=Status.ERROR, reason=why or end.reason)
        case _:
            return End(Status.INTERRUPTED, why or reason.value, exit_code)


def with_survivors(end: End, survivors: Iterable[Survivor]) -> End:
    """The end of a run that could not stop something: named, and never a success."""
    names = "; ".join(f"{survivor.pid} ({survivor.command})" for survivor in survivors)
    if not names:
        return end
    status = Status.ERROR if end.status is Status.DONE else end.status
    reason = f"{end.reason}; could not be stopped: {names}"
    return replace(end, status=status, reason=reason, exit_code=ExitCode.SURVIVORS)
