"""From a task to a conversation.

What a task names is looked at before anything starts. So an error about what is missing has the
file and the line that name it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sandbox_agent_sandbox.policy.fields.explain import suggest

from sandbox_agent.config.settings import Settings
from sandbox_agent.config.task import Task
from sandbox_agent.config.task_file import prompt_of
from sandbox_agent.config.yaml_source import PathTuple, Position, SourceMap
from sandbox_agent.conversation import Conversation
from sandbox_agent.errors import ConfigError
from sandbox_agent.journal.recorder import OnEvent
from sandbox_agent.models import Model
from sandbox_agent.models.by_name import make_model
from sandbox_agent.models.scripted import ScriptedModel
from sandbox_agent.tools.built_in import BUILT_IN


def prepare(
    task: Task,
    source: SourceMap,
    *,
    on_event: OnEvent | None = None,
    others: Mapping[str, Any] | None = None,
) -> tuple[Conversation, tuple[str, ...]]:
    """The conversation of a task, and what to tell it. Starts and writes nothing. others: further
    callbacks, by the names of a conversation's options.

    A task without a prompt whose model is a replay repeats what the recorded run was told. Raises
    ConfigError with the place of the first thing that is wrong, JournalError for a recorded run
    that is damaged, ModelError for a provider's model that cannot answer here.
    """
    model = model_of(task, source) if task.model.replayed is not None else None
    prompts = () if model is None or task.prompt or task.prompt_file else model.user_messages(0)
    if not prompts:
        prompts = (prompt_of(task, source),)
    try:
        conversation = Conversation(
            model=model or model_of(task, source),
            output_dir=task.output.dir,
            run_dir=task.output.run_dir,
            name=task.name or _name_of(source),
            on_event=on_event,
            task_files=_files_of(task, source),
            **(others or {}),
            **settings_of(task),
        )
    except ConfigError as error:
        raise with_place(error, task, source) from None
    _check_paths(task, source)
    _check_calls(task, conversation.model)
    return conversation, prompts


def model_of(task: Task, source: SourceMap, runs: Path | None = None) -> Model:
    """The task's model. runs: the folder of run folders, if not the task's. Raises as `prepare`."""
    named = source.position(("model", "name"))
    refusal = partial(_refusal, named)
    return make_model(task.model, runs or task.output.dir, named.folder, refusal)


def _refusal(named: Position, what: str, hint: str | None) -> ConfigError:
    return named.error(what, field="model", hint=hint)


def settings_of(task: Task) -> dict[str, Any]:
    """The task's settings, as options of a conversation."""
    return {name: getattr(task, name) for name in Settings.model_fields}


def with_place(error: ConfigError, task: Task, source: SourceMap) -> ConfigError:
    """`error` with file and line, if it is about a field of `task` and has no place yet."""
    if error.file is not None or not error.field:
        return error
    path: PathTuple = tuple(error.field.split("."))
    if path == ("workspace",):
        path = ("workspace", "path")
    if path == ("tools",):
        for index, choice in enumerate(task.tools):
            if ":" in str(choice) and str(choice) in error.what:
                path = ("tools", index)
    return source.error(path, error.what, error.hint)


def _files_of(task: Task, source: SourceMap) -> list[Path]:
    """The files that the task is made of."""
    files = [Path(name) for name in source.files]
    if task.prompt_file is not None:
        files.append(task.prompt_file)
    if task.model.name.startswith("scripted:"):
        files.append(source.position(("model", "name")).folder / task.model.steps.expanduser())
    return [path for path in files if path.is_file()]


def _name_of(source: SourceMap) -> str | None:
    name = Path(source.start.file).stem if source.start.line else ""
    return name.encode("utf-8", "replace").decode() or None


def _check_paths(task: Task, source: SourceMap) -> None:
    for field in ("read", "write", "protect"):
        for index, path in enumerate(getattr(task.sandbox, field)):
            if not os.path.lexists(path):
                raise source.error(
                    ("sandbox", field, index), f"{path} is not there", "make it, or remove it"
                )
            for hidden in task.sandbox.hide:
                if path == hidden or hidden in path.parents:
                    raise source.error(
                        ("sandbox", field, index),
                        f"{path} is hidden by `hide: {hidden}`",
                        "remove one of them",
                    )
    workspace = task.workspace.path.absolute()
    for index, path in enumerate(task.sandbox.hide):
        if workspace in path.parents and not os.path.lexists(path):
            raise source.error(
                ("sandbox", "hide", index), f"{path} is not there", "make it, or remove it"
            )


def _check_calls(task: Task, model: Model) -> None:
    """Refuses steps that call a tool that is not offered.

    A function gets its name inside the sandbox. So a task with one is left to the run, which tells
    the model.
    """
    names = [str(choice) for choice in task.tools]
    if not isinstance(model, ScriptedModel) or not all(name in BUILT_IN for name in names):
        return
    offered = [function.qualname for name in names for function in BUILT_IN[name]]
    for step in model.steps:
        for call, place in zip(step.turn.calls, step.call_places, strict=True):
            if call.name not in offered:
                file, _, line = place.rpartition(":")
                raise ConfigError(
                    f"the tool {call.name} is not among the task's",
                    file=file,
                    line=int(line),
                    field=f"calls.{call.name}",
                    hint=suggest(call.name, offered),
                )
