"""What a conversation is made from, put together and checked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from sandbox_agent.config.settings import (
    Budgets,
    Interrupt,
    Settings,
    Workspace,
    as_record,
    settings_from,
)
from sandbox_agent.config.workspace import usable_workspace
from sandbox_agent.errors import ConfigError
from sandbox_agent.journal.events import RecordedSettings
from sandbox_agent.journal.recorder import OnEvent, Recorder
from sandbox_agent.models import Model, OnDelta
from sandbox_agent.run.call import OnOutput
from sandbox_agent.run.parts import Callbacks as Callbacks
from sandbox_agent.run.parts import Setup as Setup
from sandbox_agent.run.parts import put_together, task_paths

if TYPE_CHECKING:
    from sandbox_agent_sandbox.policy.policy import Policy


class Options(TypedDict, total=False):
    """The options of a `Conversation` that may change when a run is resumed: `Settings`, in the
    forms that a program may give them in, and `Callbacks`."""

    tools: Sequence[Any] | None
    workspace: Path | str | Workspace
    instructions: str | None
    agents_md: bool
    sandbox: Policy | Mapping[str, Any] | None
    interrupt: Interrupt | tuple[float, float]
    budgets: Budgets | Mapping[str, Any]
    parallel: int
    spares: int
    verify: Sequence[str]
    durable: bool
    on_event: OnEvent | None
    on_output: OnOutput | None
    on_delta: OnDelta | None
    separate_output: bool
    stdin: int | None
    task_files: Sequence[Path | str] | None


def make_setup(
    run_dir: Path,
    model: Model | str,
    name: str | None,
    options: Options,
    recorded: RecordedSettings | None = None,
    recorder: type[Recorder] = Recorder,
    run: str | None = None,
) -> Setup:
    """A conversation's setup, or a `Sandbox`'s. Starts and writes nothing.

    name: the task's. options: as `Conversation` describes them. recorded: what the journal of a
    run that is resumed says, for what options do not. run: the id of a run whose folder the user
    has named. Raises ConfigError; ModelError for a
    provider's model that cannot answer here; TypeError for an option that is not known.
    """
    given: dict[str, Any] = dict(options)
    names = given.keys() & set(Callbacks.__struct_fields__)
    callbacks = Callbacks(**{name: given.pop(name) for name in names})
    _check_callbacks(callbacks)
    task_files = _task_files(given.pop("task_files", None), recorded)
    if name is not None and not name.strip():
        raise ConfigError("is empty", field="name", hint="name the task, or leave it out")
    for unknown in given.keys() - Settings.model_fields:
        raise TypeError(f"an unexpected keyword argument {unknown!r}")
    settings = settings_from(given, None if recorded is None else recorded.task)
    before = settings.workspace
    workspace = usable_workspace(
        before.path, allow_home=before.allow_home, write=settings.sandbox.write
    )
    moved = before.model_copy(update={"path": workspace})
    settings = settings.model_copy(update={"workspace": moved})
    if isinstance(model, str):
        # Imported here: it names every kind of model.
        from sandbox_agent.models.by_name import model_named

        model = model_named(model, run_dir.parent)
    if not isinstance(model, Model):
        raise ConfigError(
            f"{model!r} is no model",
            field="model",
            hint="give its name, such as openai/gpt-4o or scripted:steps.yaml, or a Model",
        )
    return put_together(
        run_dir,
        model,
        name,
        settings,
        as_record(settings),
        callbacks,
        task_files,
        recorder=recorder,
        run=run,
    )


def _task_files(
    given: Sequence[Path | str] | None, recorded: RecordedSettings | None
) -> tuple[str, ...]:
    if given is None:
        return () if recorded is None else recorded.task_files
    if isinstance(given, str) or not all(isinstance(one, Path | str) for one in given):
        raise ConfigError("must be a list of paths", field="task_files", hint="write [path]")
    return task_paths(given)


def refuse_empty(message: str) -> None:
    """Raises ConfigError for a message to the agent that says nothing, or is no text."""
    if not isinstance(message, str):
        what = f"must be text, not {type(message).__name__}"
        raise ConfigError(what, field="message", hint="write a str")
    if not message.strip():
        raise ConfigError("the message is empty", field="message", hint="write some text")


def _check_callbacks(callbacks: Callbacks) -> None:
    """Refuses a callback that cannot be called and a switch that is none: they would have no effect
    but for a warning, or the other one."""
    for field in msgspec.structs.fields(Callbacks):
        value = getattr(callbacks, field.name)
        if isinstance(field.default, bool):
            if not isinstance(value, bool):
                raise ConfigError(
                    f"must be True or False, not {value!r}", field=field.name, hint="write one"
                )
        elif field.name.startswith("on_") and value is not None and not callable(value):
            raise ConfigError(
                f"{value!r} cannot be called", field=field.name, hint="give a function, or None"
            )
