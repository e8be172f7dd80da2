"""What `run()` returns."""

from __future__ import annotations

from pathlib import Path

import msgspec
from sandbox_agent_sandbox.outcome import Survivor

from sandbox_agent.journal.result_file import Record
from sandbox_agent.journal.status import Status

_WIDTH = 79


class RunResult(msgspec.Struct, frozen=True):
    """How a run ended. record: the content of `result.json`. run_dir: the run's folder.

    error: the exception that ended the run, None if none did.
    """

    record: Record
    run_dir: Path
    error: BaseException | None = None

    def __repr__(self) -> str:
        """One line of a screen."""
        text = f"RunResult({self.status.value}, exit code {self.exit_code}: {self.reason!r})"
        return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 5]}...')"

    @property
    def status(self) -> Status:
        return self.record.status

    @property
    def exit_code(self) -> int:
        """The exit code of the command for this run."""
        return self.record.exit_code or 0

    @property
    def reason(self) -> str:
        """Why the run ended, as a text."""
        return self.record.reason

    @property
    def message(self) -> str | None:
        """The agent's final message; None if the run ended before it."""
        return self.record.message

    @property
    def survivors(self) -> tuple[Survivor, ...]:
        """Processes that could not be stopped; empty when all is well."""
        return self.record.survivors
