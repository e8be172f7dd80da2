"""Makes a task from the arguments of `run` and `validate`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sandbox_agent_sandbox.put_off import expression
from sandbox_agent_sandbox.utf8 import argument_text

from sandbox_agent.cli.task_word import TASK_FILE, task_or_prompt
from sandbox_agent.cli.verb_arguments import KINDS
from sandbox_agent.config.command_line import Given
from sandbox_agent.config.task import Task
from sandbox_agent.config.task_file import MAX_PROMPT, read_task
from sandbox_agent.config.unnamed_task import refuse_wider
from sandbox_agent.config.workspace import refuse_home
from sandbox_agent.config.yaml_source import SourceMap
from sandbox_agent.embedding.warn import notify
from sandbox_agent.errors import ConfigError
from sandbox_agent.wiring.replay_task import task_from_recording

_VARIABLE = expression(r"[A-Za-z_][A-Za-z0-9_.-]*")
_REPLAY = "replay:"

SHARED_FLAGS = {
    "model": "--model",
    "interrupt.grace": "--grace",
    "budgets.time": "--timeout",
    "sandbox.allow_degraded": "--allow-degraded",
}
"""The flag of each field that both `run` and `resume` can set."""


_PLACES = {
    "workspace.path": "--workspace",
    "output.dir": "--out",
    "output.run_dir": "--run-dir",
    "name": "--name",
    **{f"output.{kind}": f"--{kind}" for kind in KINDS},
}
"""The flags of `run` that name files, folders and the task."""


@dataclass(frozen=True)
class Assignment:
    """The task of a command line. source: file and line of its values."""

    task: Task
    source: SourceMap


def assignment_of(arguments: argparse.Namespace) -> Assignment:
    """The task of the command line. Raises ConfigError, and JournalError if the journal of the run
    to replay is damaged."""
    asked = _asked(arguments)
    overrides, variables = _overrides(arguments, asked), _variables(arguments.var)
    run = _run_to_replay(arguments)
    if run is not None:
        _refuse_variables(variables, "the recorded run")
        if _has_task_file():
            notify(
                f"{TASK_FILE} of this folder is not used: --model replay:RUN takes the settings of "
                f"the recorded run\n  hint: name {TASK_FILE} to replay the run in its settings"
            )
        found = Assignment(*task_from_recording(run, arguments.set, overrides))
    else:
        found = _from_file(arguments, asked, overrides, variables)
    refuse_home(found.task.workspace.path, allowed=arguments.allow_home)
    return _checking(found) if arguments.check else found


@dataclass(frozen=True)
class _Asked:
    """What TASK and --prompt ask for. source: what gave the prompt, for messages."""

    path: Path | None = None
    prompt: str | None = None
    source: str = "--prompt"


def _asked(arguments: argparse.Namespace) -> _Asked:
    prompt = None if arguments.prompt is None else prompt_text(arguments.prompt)
    if arguments.task is None:
        return _Asked(prompt=prompt)
    task = task_or_prompt(arguments.task)
    if isinstance(task, Path):
        return _Asked(task, prompt)
    if prompt is not None:
        raise ConfigError(
            "TASK is a prompt, and --prompt gives another one",
            file="command line",
            hint="remove one of them",
        )
    return _Asked(prompt=_utf8("TASK", task), source="TASK")


def _from_file(
    arguments: argparse.Namespace,
    asked: _Asked,
    overrides: Mapping[str, Given],
    variables: Mapping[str, str],
) -> Assignment:
    path, name = _task_path(arguments, asked), os.environ.get("SANDBOX_AGENT_MODEL")
    default = (name, "SANDBOX_AGENT_MODEL") if name else None
    if path is None and default is None and not _names_model(arguments):
        raise ConfigError(
            "no model is named",
            file="command line",
            field="model",
            hint="give --model openai/gpt-4o or scripted:steps.yaml, or set SANDBOX_AGENT_MODEL",
        )
    task, source = read_task(path, variables, arguments.set, overrides, default)
    if path is not None and asked.path is None and asked.prompt is not None:
        refuse_wider(task, source, path)
    return Assignment(task, source)


def _names_model(arguments: argparse.Namespace) -> bool:
    named = [setting.partition("=")[0].strip() for setting in arguments.set]
    return arguments.model is not None or "model" in named or "model.name" in named


def _refuse_variables(variables: Mapping[str, str], what: str) -> None:
    for name in variables:
        raise ConfigError(
            f"{what} has no ${{{name}}} to replace", file=f"--var {name}", hint="remove it"
        )


def _run_to_replay(arguments: argparse.Namespace) -> str | None:
    """RUN, if `--model replay:RUN` is given without TASK and --prompt."""
    model = arguments.model or ""
    if arguments.task is not None or arguments.prompt is not None or not model.startswith(_REPLAY):
        return None
    return str(model.removeprefix(_REPLAY).strip())


def _checking(found: Assignment) -> Assignment:
    task = found.task
    if task.model.replayed is None:
        raise ConfigError(
            f"{task.model.name} has no recorded results to compare with",
            file="--check",
            hint="give --model replay:RUN too, or leave --check out",
        )
    checked = task.model.model_copy(update={"check": True})
    return replace(found, task=task.model_copy(update={"model": checked}))


def overrides_of(arguments: argparse.Namespace, flags: Mapping[str, str]) -> dict[str, Given]:
    """The value and the flag for each field whose flag was given. flags: a flag for each field."""
    given = {
        field: getattr(arguments, flag.removeprefix("--").replace("-", "_"), None)
        for field, flag in flags.items()
    }
    return {field: (value, flags[field]) for field, value in given.items() if value is not None}


def _overrides(arguments: argparse.Namespace, asked: _Asked) -> dict[str, Given]:
    overrides = overrides_of(arguments, SHARED_FLAGS | _PLACES)
    if {"output.dir", "output.run_dir"} <= overrides.keys() and _REPLAY not in str(arguments.model):
        raise ConfigError(
            "--out has no effect beside --run-dir, which names the folder of the run itself",
            file="command line",
            hint="remove one of them",
        )
    if asked.prompt is not None:
        overrides["prompt"] = (asked.prompt, asked.source)
    return overrides


def _has_task_file() -> bool:
    return os.path.lexists(TASK_FILE)


def _task_path(arguments: argparse.Namespace, asked: _Asked) -> Path | None:
    """The task file: the one that is named, or that of this folder. None if a prompt stands for
    it."""
    if asked.path is not None:
        return asked.path
    if _has_task_file():
        replaced = []
        if asked.prompt is not None:
            given = "your prompt" if asked.source == "TASK" else asked.source
            replaced.append(f"{given} in place of its prompt")
        if arguments.model is not None:
            replaced.append("--model in place of its model")
        if replaced:
            notify(f"{TASK_FILE} of this folder is used, with {' and '.join(replaced)}")
        return Path(TASK_FILE)
    if asked.prompt is not None:
        return None
    raise ConfigError(
        f"no TASK was given, and there is no {TASK_FILE} in this folder",
        file="command line",
        hint='name a task file, or give a prompt: sandbox-agent run "Fix the tests."; '
        "`sandbox-agent init` writes a project to start from",
    )


def prompt_text(text: str) -> str:
    """The text of `--prompt`; for `-` all of standard input. Raises ConfigError."""
    if text != "-":
        return _utf8("--prompt", text)
    with open(0, "rb", closefd=False) as stdin:
        raw = stdin.read(MAX_PROMPT + 1)
    if len(raw) > MAX_PROMPT:
        raise ConfigError("is longer than 1 MiB", file="--prompt -", hint="shorten it")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8", file="--prompt -", hint="convert it") from None


def _variables(given: list[str]) -> dict[str, str]:
    variables = {}
    for one in given:
        name, separator, value = one.partition("=")
        if not separator or not _VARIABLE.fullmatch(name):
            raise ConfigError(f"--var {one} is not name=value", hint="write --var name=value")
        if name in variables:
            raise ConfigError(f"--var {name} is given twice", hint="remove one of them")
        variables[name] = _utf8(f"--var {name}", value)
    return variables


def _utf8(flag: str, text: str) -> str:
    """The text of a flag. Raises ConfigError if its bytes are not UTF-8: nothing could record them
    as they are."""
    try:
        return argument_text(text)
    except UnicodeError:
        shown = ascii(text if len(text) <= 60 else f"{text[:60]}...")
        raise ConfigError(f"{shown} is not UTF-8", file=flag, hint="encode it in UTF-8") from None
