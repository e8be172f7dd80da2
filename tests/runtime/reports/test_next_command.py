"""After a run, the command that is most useful next."""

from __future__ import annotations

from pathlib import Path

import pytest
from sandbox_agent.journal.status import Status
from sandbox_agent.reports.next_command import next_command

RUNS = Path("/home/you/.local/state/sandbox-agent")


@pytest.mark.parametrize(
    "status", [one for one in Status if one not in (Status.IDLE, Status.RUNNING)]
)
def test_a_run_that_is_done_is_looked_at_and_any_other_goes_on(status: Status) -> None:
    verb = "show" if status is Status.DONE else "resume"
    assert next_command(status, RUNS / "20261128T1-a", RUNS) == f"sandbox-agent {verb} 20261128T1-a"


def test_a_run_in_another_folder_is_named_by_its_path() -> None:
    folder = Path("/tmp/my runs/20261128T1-a")
    assert next_command(Status.DONE, folder, RUNS) == f"sandbox-agent show '{folder}'"
