"""What flags and `--set` change about a run that is resumed, in a task file's own terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox_agent.config.settings import Budgets, Interrupt
from sandbox_agent.config.task import ModelChoice, Task
from sandbox_agent.config.task_file import amend_task
from sandbox_agent.config.yaml_source import SourceMap
from sandbox_agent.errors import ConfigError
from sandbox_agent.journal.events import Settings
from sandbox_agent.models.by_name import model_of
from sandbox_agent.resume import PastRun
from sandbox_agent.run.setup import Options
from sandbox_agent.tools.registry import ToolChoice

_CHANGEABLE = (
    "model",
    "workspace",
    "tools",
    "sandbox",
    "interrupt",
    "budgets",
    "parallel",
    "verify",
)


def changed_options(
    past: PastRun, settings: Sequence[str], overrides: Mapping[str, tuple[Any, str]]
) -> Options:
    """The options that differ from what the journal says.

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
    # A task has a model. Where none is asked for, this one is looked at by nobody.
    data.setdefault("model", "scripted:-")
    task, source = amend_task(data, str(past.journal), settings, overrides)
    return _options(task, source, touched, past.folder.parent)


def as_task(known: Settings) -> dict[str, Any]:
    """What a run was made with, as the fields of a task. Without `tools` where one of them was a
    function that was handed over as an object, which has no name that a task could say."""
    data: dict[str, Any] = {
        "model": {"name": known.model, **_options_of(known)},
        "workspace": {"path": known.workspace},
        "sandbox": known.policy,
        "interrupt": {"grace": known.grace, "term": known.term},
        "budgets": known.budgets,
        "parallel": known.parallel,
        "verify": list(known.verify),
    }
    if all(isinstance(choice.tool, str) for choice in known.choices):
        data["tools"] = [{"name": c.tool, "timeout": c.timeout} for c in known.choices]
    return data


def _options_of(known: Settings) -> dict[str, Any]:
    """What a task file says of the model beside its name."""
    fields = ModelChoice.model_fields
    return {name: value for name, value in known.model_options.items() if name in fields}


def _options(task: Task, source: SourceMap, touched: set[str], runs: Path) -> Options:
    options: Options = {}
    if "model" in touched:
        options["model"] = model_of(task, source, runs)
    if "workspace" in touched:
        options["workspace"] = task.workspace.path
    if "tools" in touched:
        options["tools"] = [ToolChoice(entry.name, entry.timeout) for entry in task.tools]
    if "sandbox" in touched:
        options["sandbox"] = task.sandbox
    if "interrupt" in touched:
        options["interrupt"] = Interrupt(task.interrupt.grace, task.interrupt.term)
    if "budgets" in touched:
        options["budgets"] = Budgets(**task.budgets.model_dump())
    if "parallel" in touched:
        options["parallel"] = task.parallel
    if "verify" in touched:
        options["verify"] = task.verify
    return options
