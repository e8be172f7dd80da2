"""`sandbox-agent rm`: removes runs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.signals import Signals
from sandbox_agent.cli.verbs.runs.reading import runs_folder
from sandbox_agent.cli.verbs.runs.removing import Removed, remove_run
from sandbox_agent.errors import AgentError, ConfigError
from sandbox_agent.exit_codes import ExitCode
from sandbox_agent.journal.folder import default_output_dir, is_run_id
from sandbox_agent.journal.lookup import find_run, is_path, name_of
from sandbox_agent.reports.escape import one_line
from sandbox_agent.reports.runs.figures import count, size


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Removes each run that is named. If one is not found, none is removed."""
    base = runs_folder(arguments) or default_output_dir()
    folders = list(dict.fromkeys(_find(run, base) for run in arguments.runs))
    code = 0
    for folder in folders:
        name = name_of(folder)
        try:
            removed = remove_run(folder)
        except AgentError as error:
            console.error(str(error))
            code = code or error.exit_code
            continue
        console.out(removal(folder, name, removed))
    return code or ExitCode.DONE


def _find(run: str, base: Path) -> Path:
    """The folder. An agent that died at once may have left one without a journal."""
    folder = base / run
    if not is_path(run) and is_run_id(run) and os.path.isdir(folder):
        return folder.absolute()
    found = find_run(run, base, only=True)
    if found.resolve() in (Path.cwd().resolve(), *Path.cwd().resolve().parents):
        raise ConfigError(
            f"{run} is the folder that you are in", field="RUN", hint="cd to another folder"
        )
    return found


def removal(folder: Path, name: str | None, removed: Removed, done: str = "removed") -> str:
    """The line that says what was removed."""
    called = f" ({one_line(name, 64)})" if name else ""
    what = f"{count(removed.files, 'file')}, {size(removed.bytes)}"
    return f"{done} {one_line(folder.name)}{called}: {what}\n"
