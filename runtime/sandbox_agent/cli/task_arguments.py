"""Makes a task from the arguments of `run` and `validate`."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sandbox_agent.config.task import Task
from sandbox_agent.config.task_file import MAX_PROMPT, read_task
from sandbox_agent.config.yaml_source import SourceMap
from sandbox_agent.errors import ConfigError
from sandbox_agent.wiring.replay_task import task_from_recording

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_REPLAY = "replay:"

SHARED_FLAGS = {"model": "--model", "interrupt.grace": "--grace", "budgets.time": "--timeout"}
"""The flag of each field that both `run` and `resume` can set."""


@dataclass(frozen=True)
class Assignment:
    """The task of a command line. source: file and line of its values."""

    task: Task
    source: SourceMap


def assignment_of(arguments: argparse.Namespace) -> Assignment:
    """The task of the command line. Raises ConfigError, and JournalError if the journal of the run
    to replay is damaged."""
    overrides, variables = _overrides(arguments), _variables(arguments.var)
    run = _run_to_replay(arguments)
    if run is not None:
        found = Assignment(*task_from_recording(run, arguments.set, overrides))
    else:
        path = _task_path(arguments)
        if path is None and "model" not in overrides:
            overrides["model"] = _model_of_environment(), "SANDBOX_AGENT_MODEL"
        found = Assignment(*read_task(path, variables, arguments.set, overrides))
    return _checking(found) if arguments.check else found


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


def overrides_of(
    arguments: argparse.Namespace, flags: Mapping[str, str]
) -> dict[str, tuple[Any, str]]:
    """The value and the flag for each field whose flag was given. flags: a flag for each field."""
    given = {field: getattr(arguments, flag.removeprefix("--")) for field, flag in flags.items()}
    return {field: (value, flags[field]) for field, value in given.items() if value is not None}


def _overrides(arguments: argparse.Namespace) -> dict[str, tuple[Any, str]]:
    places = {"workspace.path": "--workspace", "output.dir": "--out"}
    overrides = overrides_of(arguments, SHARED_FLAGS | places)
    if arguments.prompt is not None:
        overrides["prompt"] = (prompt_text(arguments.prompt), "--prompt")
    return overrides


def _model_of_environment() -> str:
    name = os.environ.get("SANDBOX_AGENT_MODEL")
    if not name:
        raise ConfigError(
            "no TASK and no model",
            file="command line",
            field="model",
            hint="give --model openai/gpt-4o or scripted:steps.yaml, or set SANDBOX_AGENT_MODEL",
        )
    return name


def _task_path(arguments: argparse.Namespace) -> Path | None:
    if arguments.task is not None:
        return Path(arguments.task)
    if arguments.prompt is not None:
        return None
    if os.path.lexists("task.yaml"):
        return Path("task.yaml")
    raise ConfigError(
        "no TASK was given, and there is no task.yaml in this folder",
        file="command line",
        hint="name a task file, or give --prompt; `sandbox-agent init` writes a demo",
    )


def prompt_text(text: str) -> str:
    """The text of `--prompt`; for `-` all of standard input. Raises ConfigError."""
    if text != "-":
        return text
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
        variables[name] = value
    return variables
