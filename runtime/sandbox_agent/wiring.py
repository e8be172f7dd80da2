"""From a task to a conversation: the one module that names concrete models and tools.

What a task names is looked at before anything starts, so that what is missing is told with the
file and the line that name it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox_agent.conversation import Conversation, OnOutput
from sandbox_agent.errors import ConfigError, ModelError
from sandbox_agent.kept_keys import check_keys
from sandbox_agent.model_settings import USUAL
from sandbox_agent.models import Model
from sandbox_agent.models.catalogue import problem_with
from sandbox_agent.models.provider import THROUGH, ProviderModel
from sandbox_agent.models.replay import ReplayModel, load_replay
from sandbox_agent.models.scripted import ScriptedModel, load_script
from sandbox_agent.recorder import OnEvent
from sandbox_agent.run_lookup import find_run
from sandbox_agent.settings import Budgets, Interrupt
from sandbox_agent.task import Task
from sandbox_agent.task_errors import suggest
from sandbox_agent.task_file import prompt_of
from sandbox_agent.tools.registry import BUILT_IN, ToolChoice
from sandbox_agent.workspace import problem_with as problem_with_workspace
from sandbox_agent.yaml_source import PathTuple, SourceMap


def check(task: Task, source: SourceMap) -> tuple[Model, tuple[str, ...]]:
    """The task's model, and what it is told, when all that it names is there. Starts nothing.

    A task without a prompt whose model is a replay is told what the recorded run was told. Raises
    ConfigError with the place of the first thing that is not there, JournalError for a recorded run
    that is damaged, ModelError for a provider's model that cannot answer here.
    """
    model = model_of(task, source) if task.model.replayed is not None else None
    prompts = () if model is None or task.prompt or task.prompt_file else model.told(0)
    if not prompts:
        prompts = (prompt_of(task, source),)
    _folder(task.workspace.path, ("workspace", "path"), source)
    for field in ("read", "write", "protect"):
        for index, path in enumerate(getattr(task.sandbox, field)):
            if not os.path.lexists(path):
                raise source.error(
                    ("sandbox", field, index), f"{path} is not there", "make it, or remove it"
                )
    model = model or model_of(task, source)
    try:
        check_keys(task.sandbox.env, model, os.environ)
    except ConfigError as error:
        raise placed(error, task, source) from None
    if isinstance(model, ScriptedModel):
        _known_tools(task, model)
    return model, prompts


def converse(
    task: Task,
    source: SourceMap,
    *,
    tools: Sequence[ToolChoice] | None = None,
    on_event: OnEvent | None = None,
    on_output: OnOutput | None = None,
) -> Conversation:
    """A conversation that is told the task's prompt and is ready to run. Starts nothing.

    tools: instead of the task's. Raises ConfigError, and JournalError as `check`.
    """
    model, prompts = check(task, source)
    if tools is None:
        tools = [ToolChoice(entry.name, entry.timeout) for entry in task.tools]
    conversation = Conversation(
        model=model,
        tools=tools,
        workspace=task.workspace.path,
        sandbox=task.sandbox,
        interrupt=Interrupt(task.interrupt.grace, task.interrupt.term),
        budgets=Budgets(**task.budgets.model_dump()),
        parallel=task.parallel,
        verify=task.verify,
        output_dir=task.output.dir,
        name=task.name or _name_of(source),
        on_event=on_event,
        on_output=on_output,
    )
    for prompt in prompts:
        tell(conversation, prompt)
    return conversation


def model_again(name: str, options: Mapping[str, Any]) -> Model:
    """The model that a journal names, with its `Model.options`. Raises ConfigError for one that a
    name does not make, ModelError for a provider's that cannot answer here."""
    kind, _, rest = name.partition(":")
    if kind == "replay" and "folder" in options:
        try:
            return load_replay(options["folder"], bool(options.get("check")))
        except ConfigError as error:
            raise ConfigError(error.what, field="model", mend=_PUT_BACK) from None
    if options.get("through") == THROUGH:
        problem = problem_with(name, options.get("api_base"), os.environ)
        if problem is not None:
            kind, text, mend = problem
            raise ModelError(str(ConfigError(text, field="model", mend=mend)), kind)
        return ProviderModel(name, **{key: options[key] for key in USUAL if key in options})
    if kind != "scripted" or not rest:
        raise ConfigError(
            f"the model {name!r} cannot be made from its name",
            field="model",
            mend="give one that answers instead, with model= or --model",
        )
    if not os.path.exists(rest):
        raise ConfigError(
            f"there is no file {rest}",
            field="model",
            mend=_PUT_BACK,
        )
    return load_script(rest, name)


_PUT_BACK = "put it back, or give another model, with model= or --model"


def tell(conversation: Conversation, text: str) -> None:
    """The first message, with which the run's folder comes to be. Raises ConfigError when it
    cannot."""
    try:
        conversation.send_message(text)
    except OSError as error:
        raise ConfigError(
            f"{conversation.run_dir} cannot be written: {error.strerror}",
            field="output.dir",
            mend="name a folder that you may write to, with --out",
        ) from None


def placed(error: ConfigError, task: Task, source: SourceMap) -> ConfigError:
    """`error` with file and line, when it is about a field of `task` and does not know them."""
    if error.file is not None or not error.field:
        return error
    path: PathTuple = tuple(error.field.split("."))
    if path == ("tools",):
        for index, entry in enumerate(task.tools):
            if ":" in entry.name and entry.name in error.what:
                path = ("tools", index)
    return source.error(path, error.what, error.mend)


def _name_of(source: SourceMap) -> str | None:
    name = Path(source.start.file).stem if source.start.line else ""
    return name.encode("utf-8", "replace").decode() or None


def _folder(path: Path, field: PathTuple, source: SourceMap) -> None:
    problem = problem_with_workspace(path)
    if problem is not None:
        raise source.error(field, *problem)


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
        kind, text, mend = problem
        error = source.error(("model",), text, mend)
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
        raise source.error(("model",), error.what, error.mend) from None


def _known_tools(task: Task, model: ScriptedModel) -> None:
    """Refuses steps that call what is not offered. Functions get their names inside the sandbox,
    so a task with any of them is left to the run, where the model is told."""
    if any(entry.name not in BUILT_IN for entry in task.tools):
        return
    offered = [ref.qualname for entry in task.tools for ref in BUILT_IN[entry.name]]
    for step in model.steps:
        for call, place in zip(step.turn.calls, step.call_places, strict=True):
            if call.name not in offered:
                file, _, line = place.rpartition(":")
                raise ConfigError(
                    f"the tool {call.name} is not among the task's",
                    file=file,
                    line=int(line),
                    field=f"calls.{call.name}",
                    mend=suggest(call.name, offered),
                )
