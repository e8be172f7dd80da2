"""The command that is most useful after a run."""

from __future__ import annotations

import shlex
from pathlib import Path

from sandbox_agent.journal.status import Status

_GOES_ON = frozenset({Status.INTERRUPTED, Status.PAUSED, Status.FAILED, Status.ERROR})


def next_command(status: Status, folder: Path, default_runs: Path) -> str:
    """folder: of the run. default_runs: the folder in which commands look for runs."""
    run = folder.name if folder.parent == default_runs else shlex.quote(str(folder))
    if status is Status.BUDGET:
        return f"sandbox-agent resume {run}  (with a higher budget: --set budgets.turns=80)"
    if status in _GOES_ON:
        return f"sandbox-agent resume {run}"
    return f"sandbox-agent show {run}"
