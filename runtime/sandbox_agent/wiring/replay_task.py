"""A recorded run as a task: to run again as it was, but for what flags and `--set` change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox_agent.config.command_line import Given
from sandbox_agent.config.task import NAME, Task
from sandbox_agent.config.task_file import amend_task
from sandbox_agent.config.yaml_source import SourceMap
from sandbox_agent.errors import ConfigError
from sandbox_agent.journal.file import JOURNAL_FILE
from sandbox_agent.journal.folder import refuse_foreign
from sandbox_agent.journal.lookup import find_run
from sandbox_agent.journal.recording import read_recording
from sandbox_agent.wiring.resume_options import as_task


def task_from_recording(
    run: str, settings: Sequence[str], overrides: Mapping[str, Given]
) -> tuple[Task, SourceMap]:
    """The task of a replay that is given nothing but RUN: the settings of the run's last segment,
    its model `replay:`, and no prompt of its own.

    settings, overrides: as `task_file.read_task` takes them; of overrides `output.dir` says where
    to look for RUN. Raises ConfigError, and JournalError for a journal that is damaged.
    """
    out, _ = overrides.get("output.dir", (None, ""))
    recording = read_recording(find_run(run, None if out is None else Path(out)))
    known, file = recording.settings, recording.folder / JOURNAL_FILE
    refuse_foreign(file)
    if known is None:
        raise ConfigError(
            f"{file} ends before it says what the run was made with",
            hint="give a TASK in which to replay it",
        )
    opened = recording.state.opened
    data = as_task(known)
    data.pop("model", None)
    if opened is not None and opened.name is not None and re.fullmatch(NAME, opened.name):
        data["name"] = opened.name  # A program may have called it anything.
    model = (f"replay:{recording.folder}", "--model")
    return amend_task(data, str(file), settings, {**overrides, "model": model})
