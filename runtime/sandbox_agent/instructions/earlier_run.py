"""Finds the run during which a file was changed.

The kernel sets a file's change time (st_ctime), and no tool can set it back. A run's id begins with
the time of its start. Its journal was last written to at its end, when its tools were gone. So
nothing has to be noted while a run goes, and a run whose agent was killed is found too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox_agent.embedding.control import CONTROL_PIPE
from sandbox_agent.journal.file import JOURNAL_FILE
from sandbox_agent.journal.folder import is_run_id
from sandbox_agent.journal.lookup import opened_of


def changed_during(
    runs: Path, path: Path, moment: float, own: tuple[str, float | None]
) -> str | None:
    """The id of the newest run that was going at `moment` and whose tools could write `path`; None
    if there is none, as far as can be seen.

    runs: the folder of run folders. moment: seconds since the epoch. own: the id of the run that
    asks, and when its last segment ended: None if it has none, infinity if its agent died.
    """
    own_id, own_end = own
    try:
        names = sorted(filter(is_run_id, os.listdir(runs)), reverse=True)
    except OSError:
        return None
    for name in names:
        if _start_of(name) > moment:
            continue
        end = own_end if name == own_id else _end_of(runs / name)
        if end is not None and moment <= end and _could_write(runs / name, path):
            return name
    return None


def _start_of(run: str) -> float:
    with suppress(ValueError):
        moment = datetime.strptime(f"{run[:18]}000", "%Y%m%dT%H%M%S%f")
        return moment.replace(tzinfo=UTC).timestamp()
    return math.inf


def _end_of(folder: Path) -> float | None:
    """When a run ended. Its control pipe is there while it is going, and after its agent died."""
    if os.path.lexists(folder / CONTROL_PIPE):
        return math.inf
    try:
        return os.stat(folder / JOURNAL_FILE).st_mtime
    except OSError:
        return None


def _could_write(folder: Path, path: Path) -> bool:
    opened = opened_of(folder)
    task = opened.settings.task if opened is not None and opened.settings is not None else {}
    writable = [_at(task, "workspace", "path")]
    more = _at(task, "sandbox", "write")
    writable += more if isinstance(more, list) else []
    real = Path(os.path.realpath(path.parent)) / path.name
    with suppress(ValueError):  # a null byte in a path from a damaged journal
        folders = [Path(os.path.realpath(one)) for one in writable if isinstance(one, str) and one]
        return any(one == real or one in real.parents for one in folders)
    return False


def _at(task: Mapping[str, Any], field: str, part: str) -> object:
    value = task.get(field)
    return value.get(part) if isinstance(value, Mapping) else None
