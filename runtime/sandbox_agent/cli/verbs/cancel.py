"""`sandbox-agent cancel`: interrupts a run, whichever process it is part of."""

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
from sandbox_agent.journal import file as journal
from sandbox_agent.journal.lookup import find_run
from sandbox_agent.journal.result_file import Record, read_record
from sandbox_agent.journal.state import state_of
from sandbox_agent.journal.status import Status


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Tells the run to stop and, with --wait, waits for its record."""
    wait = seconds_of("--wait", arguments.wait)
    folder = find_run(arguments.run, Path(arguments.out) if arguments.out else None)
    door = _knock(folder)
    try:
        console.err(f"run {folder.name}: told to stop\n")
        if wait is None:
            return 0
        if not wait_until_over(door, wait):
            raise AgentError(f"the run {folder.name} is still going after {wait:g} seconds")
    finally:
        os.close(door)
    return _report(folder, console)


def _knock(folder: Path) -> int:
    try:
        door = request_interrupt(folder)
        if door is None:
            raise NotGoing(_why_not(folder))
    except PermissionError:
        raise ConfigError(
            f"the run {folder.name} is not yours", field="RUN", hint="ask whoever started it"
        ) from None
    return door


def _why_not(folder: Path) -> str:
    """Why nobody listens."""
    name, path, record = folder.name, folder / journal.FILE_NAME, _record(folder)
    if journal.in_use(path):
        return f"the run {name} is not going at this moment, but a program has it open; try again"
    events = journal.read_journal(path)
    if not events:
        return f"the run {name} has not begun: its journal is empty\n  hint: start it anew"
    end = state_of(events).segment_end
    begun = record if record is not None and record.status is Status.RUNNING else None
    # An agent may have died after the journal had its end, or before it had the next beginning.
    if end is not None and (begun is None or begun.segment <= end.n):
        return f"the run {name} is over: {end.status}: {end.reason}"
    who = f" (process {begun.pid})" if begun is not None else ""
    return (
        f"the agent of the run {name}{who} is dead, and its calls ended with it\n"
        f"  hint: `sandbox-agent resume {name}` goes on"
    )


def _report(folder: Path, console: Console) -> int:
    record = _record(folder)
    if record is None or record.status is Status.RUNNING:
        raise NotGoing(_why_not(folder))
    console.err(f"{record.status.value}: {record.reason}\n")
    for survivor in record.survivors:
        console.err(f"could not stop pid {survivor.pid}: {survivor.command}\n")
    return ExitCode.SURVIVORS if record.survivors else ExitCode.DONE


def _record(folder: Path) -> Record | None:
    try:
        return read_record(folder)
    except (OSError, JournalError):
        return None
