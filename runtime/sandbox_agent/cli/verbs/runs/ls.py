"""`sandbox-agent ls`: the runs, the newest first."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from sandbox_agent_sandbox.nearest import did_you_mean

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.signals import Signals
from sandbox_agent.cli.verbs.runs.reading import as_json, runs_folder, terminal_width
from sandbox_agent.errors import ConfigError
from sandbox_agent.exit_codes import ExitCode
from sandbox_agent.journal.folder import default_output_dir
from sandbox_agent.journal.lookup import all_folders
from sandbox_agent.journal.status import Status
from sandbox_agent.reports.escape import one_line
from sandbox_agent.reports.report import LOST
from sandbox_agent.reports.runs.figures import count
from sandbox_agent.reports.runs.summary import EMPTY, UNREADABLE, Summary, listed
from sandbox_agent.reports.runs.table import table

_STATUSES = (*(status.value for status in Status), LOST, EMPTY, UNREADABLE)
_SHOWN = 5
"""Unreadable runs that are named with the reason."""


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Lists the runs."""
    most = _most(arguments.most)
    _check_status(arguments.status)
    base = runs_folder(arguments) or default_output_dir()
    runs = listed(all_folders(base))
    commands = 0 if arguments.all else sum(run.is_command for run in runs)
    runs = [
        run
        for run in runs
        if (arguments.all or not run.is_command) and arguments.status in (None, run.status)
    ]
    shown = runs[:most]
    if arguments.json:
        for run in shown:
            console.stdout.write(as_json(run))
    elif shown:
        console.out(table(shown, time.time(), terminal_width(console)))
    _notes(console, base, runs, len(shown), commands)
    return ExitCode.DONE


def _most(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise ConfigError(f"{text} is not a number of runs", file="-n", hint="write -n 10")
    return int(text)


def _check_status(status: str | None) -> None:
    if status is not None and status not in _STATUSES:
        raise ConfigError(
            f"no run can be {status}",
            file="--status",
            hint=did_you_mean(status, _STATUSES) or f"one of {', '.join(_STATUSES)}",
        )


def _notes(console: Console, base: Path, runs: list[Summary], shown: int, commands: int) -> None:
    if not runs:
        console.err(f"no such runs in {base}\n")
    if left_out := len(runs) - shown:
        console.err(f"{count(left_out, 'older run')} not shown\n")
    if commands:
        console.err(f"{count(commands, 'command')} of `exec` not shown; --all shows them\n")
    broken = [run for run in runs if run.error is not None]
    for run in broken[:_SHOWN]:
        console.err(f"{one_line(run.run)} cannot be read: {one_line(run.error or '')}\n")
    if len(broken) > _SHOWN:
        console.err(f"... and {len(broken) - _SHOWN} more cannot be read\n")
