"""`sandbox-agent cancel`: interrupts a run from another process."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.durations import seconds_of
from sandbox_agent.cli.signals import Signals
from sandbox_agent.embedding.control import request_interrupt, wait_until_over
from sandbox_agent.errors import AgentError, ConfigError, NotGoing, NotRecorded
from sandbox_agent.exit_codes import ExitCode
from sandbox_agent.journal.events import SegmentEnded
from sandbox_agent.journal.file import JOURNAL_FILE, in_use
from sandbox_agent.journal.folder import is_run_id
from sandbox_agent.journal.lookup import find_run
from sandbox_agent.journal.standing import Head, standing_of
from sandbox_agent.journal.status import Status
from sandbox_agent.reports.lines import how_it_ended


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Interrupts the run and, with --wait, waits for its end."""
    wait = seconds_of("--wait", arguments.wait)
    folder = find_run(arguments.run, Path(arguments.out) if arguments.out else None)
    control = _request(folder)
    try:
        console.err(f"run {folder.name}: interrupt requested\n")
        if wait is None:
            return 0
        if not wait_until_over(control, wait):
            raise AgentError(f"the run {folder.name} has not ended after {wait:g} seconds")
    finally:
        os.close(control)
    return _report(folder, console)


def _request(folder: Path) -> int:
    try:
        control = request_interrupt(folder)
        if control is None:
            raise NotGoing(_why_not(folder))
    except PermissionError:
        raise ConfigError(
            f"the run {folder.name} belongs to another user",
            field="RUN",
            hint="cancel it as the user that started it",
        ) from None
    except OSError as error:
        raise NotRecorded(f"the run {folder.name} cannot be read: {error.strerror}") from None
    return control


def _why_not(folder: Path) -> str:
    """Why the run does not answer."""
    name, path = folder.name, folder / JOURNAL_FILE
    if in_use(path):
        return f"the run {name} is not active now, but a program has it open; try again"
    standing = standing_of(folder)
    if standing.is_empty:
        return f"the run {name} has not begun: its journal is empty\n  hint: start a new run"
    end, begun = standing.end, standing.begun
    if end is not None and begun is None:
        return f"the run {name} is over: {how_it_ended(end.status, end.reason)}"
    process = f" (process {begun.pid})" if begun is not None else ""
    run = name if is_run_id(name) else shlex.quote(str(folder))
    return (
        f"the agent of the run {name}{process} is dead, and its calls ended with it\n"
        f"  hint: `sandbox-agent resume {run}` continues the run"
    )


def _report(folder: Path, console: Console) -> int:
    """The end of a run that was waited for: as its journal has it, or its record if the journal
    could not be written."""
    try:
        standing = standing_of(folder)
    except OSError as error:
        raise NotRecorded(f"the run {folder.name} cannot be read: {error.strerror}") from None
    end: SegmentEnded | Head | None = standing.end if standing.begun is None else None
    record = standing.record
    if end is None and record is not None and record.status is not Status.RUNNING:
        end = record
    if end is None:
        raise NotGoing(_why_not(folder))
    console.err(how_it_ended(end.status, end.reason) + "\n")
    console.survivors(end.survivors)
    return ExitCode.SURVIVORS if end.survivors else ExitCode.DONE
