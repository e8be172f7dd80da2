"""The statuses of a conversation, the legal moves between them, and their exit codes."""

from __future__ import annotations

from enum import StrEnum

from sandbox_agent.exit_codes import ExitCode


class Status(StrEnum):
    """The state of a conversation: no run yet, a run is going, or how the last run ended."""

    IDLE = "idle"
    """No run yet."""
    RUNNING = "running"
    """A run is going."""
    PAUSED = "paused"
    """Ended between two steps because `pause()` was called. Another run goes on from there."""
    DONE = "done"
    """The agent says it is done, and every `verify` command agrees."""
    FAILED = "failed"
    """The agent could not do its task, or a `verify` command failed."""
    BUDGET = "budget"
    """A budget is spent."""
    INTERRUPTED = "interrupted"
    """Stopped from outside: `interrupt()`, a signal, a cancelled task, `close()`."""
    DENIED = "denied"
    """An approval was refused."""
    ERROR = "error"
    """The model, the sandbox or the agent program itself failed, or something could not be
    stopped."""


_ENDS = frozenset(Status) - {Status.IDLE, Status.RUNNING}

MOVES: dict[Status, frozenset[Status]] = {
    Status.IDLE: frozenset({Status.RUNNING}),
    Status.RUNNING: _ENDS,
    **{end: frozenset({Status.RUNNING}) for end in _ENDS},
}
"""Every legal move. After any end, another run may follow."""

EXIT_CODES: dict[Status, int] = {
    Status.DONE: ExitCode.DONE,
    Status.FAILED: ExitCode.FAILED,
    Status.BUDGET: ExitCode.BUDGET,
    Status.DENIED: ExitCode.DENIED,
    Status.PAUSED: ExitCode.DONE,
    Status.INTERRUPTED: ExitCode.INTERRUPTED,
    Status.ERROR: ExitCode.INTERNAL,
}
"""The usual exit code of each end. A signal other than INT and an error with a code of its own
change it; see `run.end`. `paused` has 0: nothing failed, and only the program that asked for the
pause sees it. The status tells that program that there is more to do."""


def move(now: Status, to: Status) -> Status:
    """Returns `to` if the move is legal. Raises ValueError otherwise, which is a bug of ours."""
    if to not in MOVES[now]:
        raise ValueError(f"a conversation cannot go from {now.value} to {to.value}")
    return to
