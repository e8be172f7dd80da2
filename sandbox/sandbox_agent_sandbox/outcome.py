"""How a call ended, as the host saw it. Structs and enums only: both sides may import it."""

from __future__ import annotations

from enum import StrEnum

import msgspec
from sandbox_agent_ipc.messages import Image


class Outcome(StrEnum):
    """The one outcome of a call."""

    OK = "ok"
    """The tool ended by itself and reports success."""
    ERROR = "error"
    """The tool ended by itself and reports an error, or its arguments did not fit."""
    CANCELLED = "cancelled"
    """It ended after the flag, by itself or at SIGTERM."""
    KILLED = "killed"
    """It ended after the flag, and SIGKILL was needed."""
    TIMEOUT = "timeout"
    """The call's own time was up, whatever rung ended it."""
    CRASHED = "crashed"
    """It died without a flag and without a result."""
    SKIPPED = "skipped"
    """The flag was up before the tool's code began, or the call could not be sent to a worker."""
    DENIED = "denied"
    """Approval was refused."""
    UNKNOWN = "unknown"
    """The agent died while the call was in flight."""


class StartedState(StrEnum):
    """Whether the tool's code began to run. The worker acknowledges it just before it begins."""

    YES = "yes"
    NO = "no"
    MAYBE = "maybe"


class Rung(StrEnum):
    """The rungs of the ladder. A result names the last one that was taken."""

    FLAG = "flag"
    TERM = "term"
    KILL = "kill"


class Survivor(msgspec.Struct, frozen=True):
    """A process that could not be ended, for instance in uninterruptible sleep."""

    pid: int
    command: str


class LimitMet(msgspec.Struct, frozen=True):
    """A limit of the policy that a call has met.

    limit: the name of its field, below `limits`. value: of the limit, in bytes, seconds or a
    number. text: for people and for the model, one line: the limit with its number, and what came
    of it.
    """

    limit: str
    value: float
    text: str


class CallResult(msgspec.Struct, frozen=True):
    """The result of one call.

    content: the text that the tool returned. stdout, stderr: what it printed. Without
    `separate_output` all of it is in stdout, in the order of its arrival. Each of the three is cut
    to the call's limit, with a note in the middle. output_bytes: how much it printed, all counted.
    left_out: bytes of that which are not in stdout or stderr.
    exit_status: from waitpid(2), of the command that the tool ran, also when it was stopped; of the
    worker when that ended without a result. Negative is a signal, as in `subprocess`. None where no
    process was left to wait for it: SIGKILL ends the whole namespace at once.
    rung: the last rung taken; None when the call ended without a flag. rungs_ms: milliseconds from
    the flag to each rung that was taken, and to `ended`.
    survivors: processes that could not be ended; normally empty.
    private_files: that a file tool wrote in a place of the sandbox's own; they are lost with it.
    made: False if the sandbox itself could not make the call: no process could be started for it,
    the tool's function could not be imported, its command could not be started.
    limits: the limits of the policy that the call has met. `detail` names them, too, but for what
    was only cut to `limits.output`.
    """

    id: str
    outcome: Outcome
    started: StartedState
    content: str = ""
    stdout: bytes = b""
    stderr: bytes = b""
    output_bytes: int = 0
    left_out: int = 0
    exit_status: int | None = None
    rung: Rung | None = None
    rungs_ms: dict[str, float] = {}
    survivors: tuple[Survivor, ...] = ()
    detail: str = ""
    images: tuple[Image, ...] = ()
    private_files: tuple[str, ...] = ()
    made: bool = True
    limits: tuple[LimitMet, ...] = ()

    def __repr__(self) -> str:
        """One line: what was printed may be long."""
        status = "" if self.exit_status is None else f", exit status {self.exit_status}"
        detail = f": {self.detail}" if self.detail else ""
        return f"CallResult({self.id}, {self.outcome.value}{status}{detail})"

    @property
    def ok(self) -> bool:
        """Whether the tool ended by itself and reports success."""
        return self.outcome is Outcome.OK

    @property
    def stdout_text(self) -> str:
        """`stdout` as UTF-8. Bytes that are not UTF-8 are replaced."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def stderr_text(self) -> str:
        """`stderr` as UTF-8. Bytes that are not UTF-8 are replaced."""
        return self.stderr.decode("utf-8", "replace")

    @property
    def output(self) -> str:
        """What it printed, as text: standard output first, where the two are kept apart."""
        return self.stdout_text + self.stderr_text
