"""`sandbox-agent cancel`: interrupts a run from another process."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.durations import seconds_of
from sandbox_agent.cli.signals import Signals
from sandbox_agent.embedding.control import request_interrupt, wait_until_over
from sandbox_agent.errors import AgentError, ConfigError, JournalError, NotGoing
from sandbox_agent.exit_codes import ExitCode
from sandbox_agent.journal.file import JOURNAL_FILE, in_use, read_journal
from sandbox_agent.journal.lookup import find_run
from sandbox_agent.journal.result_file import Record, read_record
from sandbox_agent.journal.state import state_of
from sandbox_agent.journal.status import Status


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
    return control


def _why_not(folder: Path) -> str:
    """Why the run does not answer."""
    name, path, record = folder.name, folder / JOURNAL_FILE, _record(folder)
    if in_use(path):
        return f"the run {name} is not active now, but a program has it open; try again"
    events = read_journal(path)
    if not events:
        return f"the run {name} has not begun: its journal is empty\n  hint: start a new run"
    end = state_of(events).segment_end
    begun = record if record is not None and record.status is Status.RUNNING else None
    # The agent may have died after it wrote an end, or before it wrote the next beginning.
    if end is not None and (begun is None or begun.segment <= end.number):
        return f"the run {name} is over: {end.status}: {end.reason}"
    process = f" (process {begun.pid})" if begun is not None else ""
    return (
        f"the agent of the run {name}{process} is dead, and its calls ended with it\n"
        f"  hint: `sandbox-agent resume {name}` continues the run"
    )


def _report(folder: Path, console: Console) -> int:
    record = _record(folder)
    if record is None or record.status is Status.RUNNING:
        raise NotGoing(_why_not(folder))
    console.err(f"{record.status.value}: {record.reason}\n")
    console.survivors(record.survivors)
    return ExitCode.SURVIVORS if record.survivors else ExitCode.DONE


def _record(folder: Path) -> Record | None:
    try:
        return read_record(folder)
    except (OSError, JournalError):
        return None
