"""Reads the runs that a command names."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import msgspec

from sandbox_agent.cli.console import Console
from sandbox_agent.errors import AgentError, ConfigError, NotRecorded
from sandbox_agent.journal.lookup import find_run
from sandbox_agent.reports.mask import Mask, mask_for
from sandbox_agent.reports.report import Report, read_report

_COLUMNS = 80
"""Of a terminal that does not say how wide it is."""


def runs_folder(arguments: argparse.Namespace) -> Path | None:
    """The folder of run folders that --out names; None for the default."""
    return Path(arguments.out) if arguments.out else None


def report_of(run: str, arguments: argparse.Namespace) -> Report:
    """The report of the run that a command names. Raises ConfigError, JournalError, NotRecorded."""
    folder = find_run(run, runs_folder(arguments)).absolute()
    try:
        return read_report(folder)
    except OSError as error:
        raise unreadable(folder, error) from None


def unreadable(folder: Path, error: OSError) -> AgentError:
    """Why a run cannot be read."""
    if isinstance(error, PermissionError):
        return ConfigError(
            f"the run {folder.name} belongs to another user",
            field="RUN",
            hint="read it as the user that started it",
        )
    return NotRecorded(f"the run {folder.name} cannot be read: {error.strerror}")


def mask_of(report: Report) -> Mask:
    """Replaces secrets in texts of a report: those of this process's environment, too."""
    return mask_for(report, os.environ)


def as_json(value: Any) -> bytes:
    """A line of JSON in ASCII: it is the same in every locale, and harmless on a terminal and in
    the log of a CI job, where `##vso[` is a command wherever it stands."""
    text = json.dumps(msgspec.to_builtins(value))
    return text.replace("\x7f", "\\u007f").replace("##", "\\u0023#").encode() + b"\n"


def terminal_width(console: Console) -> int | None:
    """Columns of the terminal that standard output leads to; None if it leads elsewhere."""
    if not console.stdout.is_terminal:
        return None
    try:
        return os.get_terminal_size(1).columns or _COLUMNS
    except OSError:  # it has hung up
        return _COLUMNS
