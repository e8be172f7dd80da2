"""The command that is most useful after a run."""

from __future__ import annotations

import shlex
from pathlib import Path

from sandbox_agent.journal.status import Status

_GOES_ON = frozenset(Status) - {Status.DONE}


def next_command(status: Status, folder: Path, default_runs: Path) -> str:
    """folder: of the run. default_runs: the folder in which commands look for runs. A resumed run
    has its budgets anew, so this goes on after a spent one too."""
    run = folder.name if folder.parent == default_runs else shlex.quote(str(folder))
    return f"sandbox-agent {'resume' if status in _GOES_ON else 'show'} {run}"
