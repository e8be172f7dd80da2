"""From a task to a conversation: the one module that names concrete models and tools.

What a task names is looked at before anything starts, so that what is missing is told with the
file and the line that name it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sandbox_agent.config.settings import Budgets, Interrupt
from sandbox_agent.config.task import Task
from sandbox_agent.config.task_file import prompt_of
from sandbox_agent.config.validation_errors import suggest
from sandbox_agent.config.workspace import problem_with as problem_with_workspace
from sandbox_agent.config.yaml_source import PathTuple, SourceMap
from sandbox_agent.conversation import Conversation, OnOutput
from sandbox_agent.errors import ConfigError
from sandbox_agent.journal.recorder import OnEvent
from sandbox_agent.models import Model
from sandbox_agent.models.by_name import model_of
from sandbox_agent.models.scripted import ScriptedModel
from sandbox_agent.run.secrets import check_keys
from sandbox_agent.tools.registry import BUILT_IN, ToolChoice


def check(task: Task, source: SourceMap) -> tuple[Model, tuple[str, ...]]:
    """The task's model, and what it is told, when all that it names is there. Starts nothing.

    A task without a prompt whose model is a replay is told what the recorded run was told. Raises
    ConfigError with the place of the first thing that is not there, JournalError for a recorded run
    that is damaged, ModelError for a provider's model that cannot answer here.
    """
    model = model_of(task, source) if task.model.replayed is not None else None
    prompts = () if model is None or task.prompt or task.prompt_file else model.user_messages(0)
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
        raise with_place(error, task, source) from None
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


def tell(conversation: Conversation, text: str) -> None:
    """The first message, with which the run's folder comes to be. Raises ConfigError when it
    cannot."""
    try:
        conversation.send_message(text)
    except OSError as error:
        raise ConfigError(
            f"{conversation.run_dir} cannot be written: {error.strerror}",
            field="output.dir",
            hint="name a folder that you may write to, with --out",
        ) from None


def with_place(error: ConfigError, task: Task, source: SourceMap) -> ConfigError:
    """`error` with file and line, when it is about a field of `task` and does not know them."""
    if error.file is not None or not error.field:
        return error
    path: PathTuple = tuple(error.field.split("."))
    if path == ("tools",):
        for index, entry in enumerate(task.tools):
            if ":" in entry.name and entry.name in error.what:
                path = ("tools", index)
    return source.error(path, error.what, error.hint)


def _name_of(source: SourceMap) -> str | None:
    name = Path(source.start.file).stem if source.start.line else ""
    return name.encode("utf-8", "replace").decode() or None


def _folder(path: Path, field: PathTuple, source: SourceMap) -> None:
    problem = problem_with_workspace(path)
    if problem is not None:
        raise source.error(field, *problem)


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
                    hint=suggest(call.name, offered),
                )
