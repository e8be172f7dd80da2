"""What a run returns."""

from __future__ import annotations

from pathlib import Path

import msgspec
from sandbox_agent_sandbox.outcome import Survivor

from sandbox_agent.journal.result_file import Record
from sandbox_agent.journal.status import Status


class RunResult(msgspec.Struct, frozen=True):
    """How a run ended. record: all that `result.json` says. run_dir: the run's folder.

    error: what went wrong, where something of ours, of the model's or of the disk's did.
    """

    record: Record
    run_dir: Path
    error: BaseException | None = None

    @property
    def status(self) -> Status:
        return self.record.status

    @property
    def exit_code(self) -> int:
        """What the command line ends with after such a run."""
        return self.record.exit_code or 0

    @property
    def reason(self) -> str:
        """Why it ended, in words."""
        return self.record.reason

    @property
    def message(self) -> str | None:
        """The agent's final words; None when it did not come to that."""
        return self.record.message

    @property
    def survivors(self) -> tuple[Survivor, ...]:
        """Processes that could not be stopped; empty when all is well."""
        return self.record.survivors
