"""Errors of the runtime. Each has the exit code that the command line ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox_agent_ipc.errors import SandboxAgentError
from sandbox_agent_sandbox.errors import PolicyError, SandboxError

from sandbox_agent.exit_codes import ExitCode

if TYPE_CHECKING:
    from sandbox_agent_ipc.model_messages import FailureKind


class AgentError(SandboxAgentError):
    """Root of the errors of this package. `exit_code`: what `sandbox-agent` ends with."""

    exit_code: int = ExitCode.FAILED


class ConfigError(AgentError):
    """Something that the user wrote is wrong: an option, a task file, a steps file or a policy.

    Nothing was started.

    what: what is wrong. file: its path as the user wrote it. line, column: counted from 1.
    field: dotted, as in `sandbox.limits.timeout`. hint: what to do about it.
    others: further problems of the same files, found at the same time.
    """

    exit_code: int = ExitCode.USAGE

    def __init__(
        self,
        what: str,
        *,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
        field: str | None = None,
        hint: str | None = None,
        others: tuple[ConfigError, ...] = (),
    ) -> None:
        self.what = what
        self.file = file
        self.line = line
        self.column = column
        self.field = field
        self.hint = hint
        self.others = others
        super().__init__(what)

    @property
    def where(self) -> str:
        """`file:line:column`, as much of it as is known; "" if nothing is."""
        if self.file is None:
            return ""
        # A name with a line break would forge further lines of the message.
        file = self.file.replace("\n", "\\n")
        return ":".join(str(part) for part in (file, self.line, self.column) if part)

    def __str__(self) -> str:
        head = ": ".join(part for part in (self.where, self.field, self.what) if part)
        own = f"{head}\n  hint: {self.hint}" if self.hint else head
        return "\n".join([own, *(str(other) for other in self.others)])


class ModelError(AgentError):
    """The model or its provider failed: no answer, a refused key, an answer that makes no sense.

    kind: which of these it was; None for a model that no provider runs.
    """

    exit_code: int = ExitCode.MODEL

    def __init__(self, text: str, kind: FailureKind | None = None) -> None:
        super().__init__(text)
        self.kind = kind


class AgentFailed(AgentError):
    """The agent cannot continue, and the run ends as `failed`.

    A scripted model raises it at the end of its list of turns, and when results do not match its
    `expect`.
    """

    exit_code: int = ExitCode.FAILED


class StateError(AgentError):
    """The operation is not possible in this state: a second `run()` while one is going, a closed
    conversation."""

    exit_code: int = ExitCode.USAGE


class NotGoing(StateError):
    """The run to stop is not going."""

    exit_code: int = ExitCode.FAILED


class NotRecorded(AgentError):
    """What happened could not be written down, or not be read again: the disk is full, fails, is
    read-only by now, or the run's folder is gone. Says what is missing."""

    exit_code: int = ExitCode.SANDBOX


class JournalError(AgentError):
    """A journal cannot be read: it is damaged in the middle, or its version is not known."""

    exit_code: int = ExitCode.USAGE


def exit_code_of(error: BaseException) -> int:
    """The exit code of a run that `error` ended."""
    match error:
        case AgentError():
            return error.exit_code
        case PolicyError():
            return ExitCode.USAGE
        case SandboxError():
            return ExitCode.SANDBOX
        case _:
            return ExitCode.INTERNAL
