"""What a conversation is made from, put together and checked once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec
from sandbox_agent_sandbox.utf8 import is_utf8

from sandbox_agent.config.notices import notices
from sandbox_agent.config.settings import (
    Budgets,
    Interrupt,
    Settings,
    Workspace,
    as_record,
    settings_from,
)
from sandbox_agent.config.workspace import existing_folder, refuse_home
from sandbox_agent.embedding.warn import notify
from sandbox_agent.errors import ConfigError
from sandbox_agent.first_imports import guard_below, take_left_out
from sandbox_agent.journal.events import AnyEvent, RecordedSettings
from sandbox_agent.journal.folder import hidden_from_tools, is_run_id
from sandbox_agent.journal.recorder import OnEvent, Recorder
from sandbox_agent.models import Model, OnDelta
from sandbox_agent.reports.log import log_event
from sandbox_agent.run.call import OnOutput
from sandbox_agent.run.sandbox import ConversationSandbox
from sandbox_agent.run.secrets import check_keys

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


class Callbacks(msgspec.Struct, frozen=True):
    """How the embedding program takes part in a run. Not in the journal."""

    durable: bool = False
    on_event: OnEvent | None = None
    on_output: OnOutput | None = None
    on_delta: OnDelta | None = None
    separate_output: bool = False
    stdin: int | None = None


class Setup(msgspec.Struct, frozen=True):
    """What does not change between the runs of a conversation.

    settings: checked, with the workspace as an absolute path. recorded: the same with the model, as
    the journal keeps them.
    """

    model: Model
    settings: Settings
    recorded: RecordedSettings
    callbacks: Callbacks
    host: ConversationSandbox
    recorder: Recorder
    name: str | None


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
    workspace = existing_folder(settings.workspace.path)
    refuse_home(workspace, allowed=settings.workspace.allow_home)
    moved = settings.workspace.model_copy(update={"path": workspace})
    settings = settings.model_copy(update={"workspace": moved})
    guard_below([os.path.realpath(path) for path in (workspace, *settings.sandbox.write)])
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
    check_keys(settings, model, os.environ)
    if files := take_left_out():
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        notify(
            f"not imported: {', '.join(files[:3])}{more}. Tools may write there, and Python, an"
            " installed package or sandbox-agent has or looks for a module of that name\n"
            "  hint: rename it, or remove it if you did not write it"
        )
    for notice in notices(settings.sandbox, workspace, os.environ):
        notify(notice)
    keep = RecordedSettings(model.name, model.options, as_record(settings), task_files)
    _refuse_other_bytes(keep, name)
    # Of a folder that the user has named, what lies beside it is no run.
    output_dir = run_dir.parent if is_run_id(run_dir.name) else run_dir
    hidden = hidden_from_tools(run_dir, output_dir, workspace)
    return Setup(
        model=model,
        settings=settings,
        recorded=keep,
        callbacks=callbacks,
        host=ConversationSandbox(settings, tuple(hidden), tuple(map(Path, task_files))),
        recorder=recorder(
            run_dir, name, _logged(run or run_dir.name, callbacks.on_event), keep, run
        ),
        name=name,
    )


def _task_files(
    given: Sequence[Path | str] | None, recorded: RecordedSettings | None
) -> tuple[str, ...]:
    if given is None:
        return () if recorded is None else recorded.task_files
    if isinstance(given, str) or not all(isinstance(one, Path | str) for one in given):
        raise ConfigError("must be a list of paths", field="task_files", hint="write [path]")
    paths = [os.path.abspath(path) for path in given]
    for path in paths:
        if not is_utf8(path):
            notify(
                f"{os.fsencode(path)!r} is not UTF-8, so it is not protected from tools\n"
                "  hint: rename it"
            )
    return tuple(filter(is_utf8, paths))


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


def _logged(run: str, on_event: OnEvent | None) -> OnEvent:
    def tell(event: AnyEvent) -> None:
        log_event(run, event)
        if on_event is not None:
            on_event(event)

    return tell


def _refuse_other_bytes(settings: RecordedSettings, name: str | None) -> None:
    """The journal is UTF-8: it cannot name a file whose name is not, and holds no half of a
    character."""
    try:
        msgspec.json.encode((settings, name))
    except UnicodeEncodeError as error:
        text = str(error.object)
        try:
            shown = repr(os.fsencode(text))
        except UnicodeEncodeError:  # from a program: no file has such a name
            shown = ascii(text)
        raise ConfigError(
            f"{shown} is not UTF-8, and the journal is", hint="rename it, or name another"
        ) from None
