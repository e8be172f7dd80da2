"""Models by their names: the one module that names every kind of model."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sandbox_agent_ipc.model_messages import FailureKind

from sandbox_agent.config.model_settings import THROUGH, USUAL
from sandbox_agent.config.task import ModelChoice
from sandbox_agent.errors import ConfigError, ModelError
from sandbox_agent.journal.lookup import find_run
from sandbox_agent.models import Model

Refusal = Callable[[str, str | None], ConfigError]
"""Makes the error for what is wrong with a model, from that and the hint."""

_PUT_BACK = "put it back, or give another model, with model= or --model"


def model_named(name: str, runs: Path) -> Model:
    """The model that a program names as `model:` of a task file does.

    runs: the folder of run folders. Relative paths start at the current folder. Raises ConfigError
    for a name that no model has, JournalError for a recorded run that is damaged, ModelError for a
    provider's model that cannot answer here.
    """
    try:
        return make_model(ModelChoice(name=name), runs, Path.cwd(), _refusal)
    except ModelError as error:
        cause = error.__cause__
        if error.kind is FailureKind.UNKNOWN_MODEL and isinstance(cause, ConfigError):
            raise cause from None
        raise


def make_model(choice: ModelChoice, runs: Path | None, here: Path, refusal: Refusal) -> Model:
    """The model of a task.

    runs: the folder of run folders; None for the default. here: where relative paths start.
    Raises what `refusal` makes, JournalError and ModelError as `model_named`.
    """
    # Each kind is imported only for a model of that kind.
    if choice.replayed is not None:
        from sandbox_agent.models.replay import load_replay

        try:
            return load_replay(find_run(choice.replayed, runs, here), choice.check)
        except ConfigError as error:
            raise refusal(error.what, error.hint) from None
    if not choice.provided:
        steps = here / choice.steps.expanduser()
        if not os.path.exists(steps):
            raise refusal(f"there is no file {steps}", "write the list of turns, or fix the path")
        from sandbox_agent.models.scripted import load_script

        return load_script(steps, f"scripted:{steps}")
    from sandbox_agent.models.catalogue import problem_with
    from sandbox_agent.models.provider import ProviderModel

    problem = problem_with(choice.name, choice.api_base, os.environ)
    if problem is not None:
        kind, what, hint = problem
        cause = refusal(what, hint)
        raise ModelError(str(cause), kind) from cause
    return ProviderModel(choice.name, **{field: getattr(choice, field) for field in USUAL})


def model_from_journal(name: str, options: Mapping[str, Any]) -> Model:
    """The model that a journal names, with its `Model.options`.

    Raises ConfigError for a model that its name does not make, and otherwise as `model_named`.
    """
    recorded = task_field(name, options)
    if recorded is None:
        raise ConfigError(
            f"the model {name!r} cannot be made from its name",
            field="model",
            hint="give one that answers instead, with model= or --model",
        )
    choice = ModelChoice(**recorded)
    keep_hint = choice.provided
    return make_model(
        choice, None, Path(), lambda what, hint: _refusal(what, hint if keep_hint else _PUT_BACK)
    )


def task_field(name: str, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a journal says of a model, as the field `model` of a task says it; None for a model that
    no task can name."""
    kind, _, rest = name.partition(":")
    if kind == "replay" and "folder" in options:
        return {"name": f"replay:{options['folder']}", "check": bool(options.get("check"))}
    if options.get("through") == THROUGH:
        return {"name": name} | {key: options[key] for key in USUAL if key in options}
    return {"name": name} if kind == "scripted" and rest else None


def _refusal(what: str, hint: str | None) -> ConfigError:
    return ConfigError(what, field="model", hint=hint)
