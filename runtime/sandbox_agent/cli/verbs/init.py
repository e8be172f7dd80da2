"""`sandbox-agent init`: writes a small project to start from."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from sandbox_agent_sandbox.utf8 import is_utf8

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.signals import Signals, nothing_blocked
from sandbox_agent.cli.task_word import TASK_FILE, shown_name
from sandbox_agent.cli.templates import TEMPLATES, files
from sandbox_agent.errors import ConfigError

_GIT = (
    *("-c", "user.name=sandbox-agent demo", "-c", "user.email=demo@example.invalid"),
    *("-c", "init.defaultBranch=main", "-c", "commit.gpgSign=false", "-c", "core.autocrlf=false"),
    *("-c", "core.hooksPath=/dev/null", "-c", "init.templateDir="),
)
"""The demo's own identity, and no hooks: the user's git configuration is not used."""
_GIT_SECONDS = 30.0


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Writes the project of a template into a new or an empty folder."""
    target = Path(os.path.expanduser(arguments.name))
    _refuse_used(target)
    try:
        for name, text in files(arguments.template, _python()).items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot be written: {error.strerror}",
            file=str(error.filename or target),
            hint="name a folder that you may write to",
        ) from None
    reason = _make_repository(target)
    if reason:
        console.err(f"no git repository was made: {reason}\n")
    task = target / TASK_FILE
    console.out(f"{task}\n")
    console.err(
        f"wrote {TEMPLATES[arguments.template]}\n"
        f"next: sandbox-agent run {shlex.quote(shown_name(str(task)))}\n"
    )
    return 0


def _python() -> str:
    """The interpreter that runs the project's tests, as a shell command names it: `python3` if that
    is this one, so that the project can be moved to another machine. Raises ConfigError."""
    found = shutil.which("python3")
    try:
        if found is not None and os.path.samefile(found, sys.executable):
            return "python3"
    except OSError:
        pass
    if not is_utf8(sys.executable):
        raise ConfigError(
            "the path of this Python is not UTF-8, so no task can name it",
            file=shown_name(sys.executable),
            hint="put its folder on the PATH, so that python3 is this Python",
        )
    return shlex.quote(sys.executable)


def _refuse_used(target: Path) -> None:
    try:
        used = any(target.iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise ConfigError("is a file", file=str(target), hint="name a new folder") from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(target)) from None
    if used:
        raise ConfigError(
            "the folder is not empty", file=str(target), hint="name a new folder, or empty it"
        )


def _make_repository(target: Path) -> str | None:
    """Commits the project with git. Returns why it could not, or None."""
    git = shutil.which("git")
    if git is None:
        return "git was not found"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for command in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "A project with a bug")):
        try:
            code, said = _run([git, *_GIT, *command], target, environment)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if code:
            return f"git {command[0]}: {said.strip() or code}"
    return None


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Runs a command. Returns its exit code and what it wrote to standard error."""
    with nothing_blocked():
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    with process:
        try:
            _, said = process.communicate(timeout=_GIT_SECONDS)
        except BaseException:
            process.kill()
            raise
    return process.returncode, said
