"""Models by their names: the one module that names every kind of model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox_agent.config.model_settings import USUAL
from sandbox_agent.config.task import Task
from sandbox_agent.config.yaml_source import SourceMap
from sandbox_agent.errors import ConfigError, ModelError
from sandbox_agent.journal.lookup import find_run
from sandbox_agent.models import Model
from sandbox_agent.models.catalogue import problem_with
from sandbox_agent.models.provider import THROUGH, ProviderModel
from sandbox_agent.models.replay import ReplayModel, load_replay
from sandbox_agent.models.scripted import load_script


def model_from_journal(name: str, options: Mapping[str, Any]) -> Model:
    """The model that a journal names, with its `Model.options`. Raises ConfigError for one that a
    name does not make, ModelError for a provider's that cannot answer here."""
    kind, _, rest = name.partition(":")
    if kind == "replay" and "folder" in options:
        try:
            return load_replay(options["folder"], bool(options.get("check")))
        except ConfigError as error:
            raise ConfigError(error.what, field="model", hint=_PUT_BACK) from None
    if options.get("through") == THROUGH:
        problem = problem_with(name, options.get("api_base"), os.environ)
        if problem is not None:
            kind, text, hint = problem
            raise ModelError(str(ConfigError(text, field="model", hint=hint)), kind)
        return ProviderModel(name, **{key: options[key] for key in USUAL if key in options})
    if kind != "scripted" or not rest:
        raise ConfigError(
            f"the model {name!r} cannot be made from its name",
            field="model",
            hint="give one that answers instead, with model= or --model",
        )
    if not os.path.exists(rest):
        raise ConfigError(
            f"there is no file {rest}",
            field="model",
            hint=_PUT_BACK,
        )
    return load_script(rest, name)


_PUT_BACK = "put it back, or give another model, with model= or --model"


def model_of(task: Task, source: SourceMap, runs: Path | None = None) -> Model:
    """The task's model. runs: where recorded runs are; None for where the task's go. Raises
    ConfigError, and JournalError for a recorded run that is damaged."""
    if task.model.replayed is not None:
        return _replay(task, source, runs or task.output.dir)
    if task.model.provided:
        return _provided(task, source)
    steps = task.model.steps
    if not os.path.exists(steps):
        raise source.error(
            ("model",), f"there is no file {steps}", "write the list of turns, or fix the path"
        )
    return load_script(steps, task.model.name)


def _provided(task: Task, source: SourceMap) -> Model:
    """A provider's model, after what can be known of it at once."""
    choice = task.model
    problem = problem_with(choice.name, choice.api_base, os.environ)
    if problem is not None:
        kind, text, hint = problem
        error = source.error(("model",), text, hint)
        raise ModelError(str(error), kind)
    return ProviderModel(
        choice.name,
        api_base=choice.api_base,
        timeout=choice.timeout,
        retries=choice.retries,
        stream=choice.stream,
        params=choice.params,
    )


def _replay(task: Task, source: SourceMap, runs: Path | None) -> ReplayModel:
    here = source.position(("model",)).folder
    try:
        return load_replay(find_run(task.model.replayed or "", runs, here), task.model.check)
    except ConfigError as error:
        raise source.error(("model",), error.what, error.hint) from None
