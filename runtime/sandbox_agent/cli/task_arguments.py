"""From the arguments of `run` and `validate` to a task."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any

from sandbox_agent.cli.console import Console
from sandbox_agent.errors import ConfigError
from sandbox_agent.task import Task
from sandbox_agent.task_file import MAX_PROMPT, read_task
from sandbox_agent.yaml_source import SourceMap

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def task_of(arguments: argparse.Namespace, console: Console) -> tuple[Task, SourceMap]:
    """The task that the command line asks for, and the places of its values. Raises ConfigError."""
    path = _task_path(arguments)
    overrides: dict[str, tuple[Any, str]] = {}
    for field, flag in (
        ("model", "--model"),
        ("workspace.path", "--workspace"),
        ("interrupt.grace", "--grace"),
        ("budgets.time", "--timeout"),
        ("output.dir", "--out"),
    ):
        value = getattr(arguments, flag.removeprefix("--"))
        if value is not None:
            overrides[field] = (value, flag)
    if path is None and arguments.model is None:
        name = os.environ.get("SANDBOX_AGENT_MODEL")
        if not name:
            raise ConfigError(
                "no TASK and no model",
                file="command line",
                field="model",
                mend="give --model scripted:steps.yaml, or set SANDBOX_AGENT_MODEL",
            )
        overrides["model"] = (name, "SANDBOX_AGENT_MODEL")
    if arguments.prompt is not None:
        overrides["prompt"] = (prompt_text(arguments.prompt), "--prompt")
    return read_task(path, _variables(arguments.var), arguments.set, overrides)


def _task_path(arguments: argparse.Namespace) -> Path | None:
    if arguments.task is not None:
        return Path(arguments.task)
    if arguments.prompt is not None:
        return None
    if os.path.lexists("task.yaml"):
        return Path("task.yaml")
    raise ConfigError(
        "no TASK was named, and there is no task.yaml here",
        file="command line",
        mend="name a task file, or give --prompt; `sandbox-agent init` makes one to try",
    )


def prompt_text(text: str) -> str:
    """The text of `--prompt`: as given, or of standard input for `-`. Raises ConfigError."""
    if text != "-":
        return text
    with open(0, "rb", closefd=False) as stdin:
        raw = stdin.read(MAX_PROMPT + 1)
    if len(raw) > MAX_PROMPT:
        raise ConfigError("is longer than 1 MiB", file="--prompt -", mend="shorten it")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8", file="--prompt -", mend="convert it") from None


def _variables(given: list[str]) -> dict[str, str]:
    variables = {}
    for one in given:
        name, separator, value = one.partition("=")
        if not separator or not _VARIABLE.fullmatch(name):
            raise ConfigError(f"--var {one} is not name=value", mend="write --var name=value")
        variables[name] = value
    return variables
