"""What flags and `--set` change in a run that is resumed, in a task file's own terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sandbox_agent.config.command_line import Given
from sandbox_agent.config.settings import Settings, from_record
from sandbox_agent.config.task_file import amend_task
from sandbox_agent.errors import ConfigError
from sandbox_agent.journal.events import RecordedSettings
from sandbox_agent.models.by_name import task_field
from sandbox_agent.resume import PastRun
from sandbox_agent.wiring.task import model_of

_CHANGEABLE = ("model", *Settings.model_fields)


def changed_options(
    past: PastRun, settings: Sequence[str], overrides: Mapping[str, Given]
) -> dict[str, Any]:
    """The options of `Conversation.resume` that flags and settings name.

    settings, overrides: as `task_file.read_task` takes them. Raises ConfigError.
    """
    names = [setting.partition("=")[0] for setting in settings] + list(overrides)
    touched = {name.strip().split(".")[0] for name in names}
    for name in sorted(touched - set(_CHANGEABLE)):
        raise ConfigError(
            f"{name} cannot be changed in a run that is resumed",
            field=name,
            hint=f"change any of {', '.join(_CHANGEABLE)}, or start a new run",
        )
    if not touched or past.settings is None:
        return {}
    data = {name: value for name, value in as_task(past.settings).items() if name in touched}
    # A task has a model. Where the flags name none, this one is made by nothing.
    data.setdefault("model", "scripted:-")
    task, source = amend_task(data, str(past.journal), settings, overrides)
    options = {name: getattr(task, name) for name in touched - {"model"}}
    if "model" in touched:
        options["model"] = model_of(task, source, past.folder.parent)
    return options


def as_task(recorded: RecordedSettings) -> dict[str, Any]:
    """What a run was made with, as the fields of a task."""
    model = task_field(recorded.model, recorded.model_options)
    return from_record(recorded.task) | ({} if model is None else {"model": model})
