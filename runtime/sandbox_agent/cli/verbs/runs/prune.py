"""`sandbox-agent prune`: removes the runs that ended long ago."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.durations import seconds_of
from sandbox_agent.cli.signals import Signals
from sandbox_agent.cli.verbs.runs.reading import runs_folder
from sandbox_agent.cli.verbs.runs.removing import remove_run, size_of
from sandbox_agent.cli.verbs.runs.rm import removal
from sandbox_agent.errors import AgentError, ConfigError, StateError
from sandbox_agent.exit_codes import ExitCode
from sandbox_agent.journal.file import JOURNAL_FILE
from sandbox_agent.journal.folder import default_output_dir
from sandbox_agent.journal.lookup import all_folders
from sandbox_agent.reports.escape import one_line
from sandbox_agent.reports.report import RUNNING
from sandbox_agent.reports.runs.figures import count, seconds_since, size
from sandbox_agent.reports.runs.summary import UNREADABLE, Summary, listed


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Removes every run whose last event is older than --keep, and says which."""
    keep = _keep(arguments.keep)
    base = runs_folder(arguments) or default_output_dir()
    now = time.time()
    files = total = runs = 0
    code = 0
    for run in reversed(listed(all_folders(base))):
        folder = Path(run.folder)
        if run.status == UNREADABLE:
            _say_kept(console, run, run.error or "")
            continue
        if run.status == RUNNING or folder.is_symlink() or _quiet_for(run, now) <= keep:
            continue
        try:
            removed = size_of(folder) if arguments.dry_run else remove_run(folder)
        except (StateError, ConfigError) as error:
            # Open in a program that may go on with it, not this user's, or with files of the user.
            _say_kept(console, run, str(error).partition("\n")[0])
            continue
        except AgentError as error:
            console.error(str(error))
            code = code or error.exit_code
            continue
        done = "would remove" if arguments.dry_run else "removed"
        console.out(removal(folder, run.name, removed, done))
        files, total, runs = files + removed.files, total + removed.bytes, runs + 1
    done = "to be removed" if arguments.dry_run else "removed"
    console.err(f"{count(runs, 'run')} {done}, {count(files, 'file')}, {size(total)}\n")
    return code or ExitCode.DONE


def _say_kept(console: Console, run: Summary, why: str) -> None:
    console.err(f"kept {one_line(run.run)}: {one_line(why)}\n")


def _keep(text: str) -> float:
    """Seconds. A number without a unit means seconds elsewhere, and would remove nearly all."""
    if text.strip().replace(".", "", 1).isdigit():
        raise ConfigError(f"{text} has no unit", file="--keep", hint=f"write {text}d or {text}h")
    seconds = seconds_of("--keep", text)
    assert seconds is not None
    return seconds


def _quiet_for(run: Summary, now: float) -> float:
    """Seconds since the run's last event. 0 if nothing tells when that was."""
    if run.ended is not None and (since := seconds_since(run.ended, now)) is not None:
        return since
    # A run without an end, or without any event: its file was written last when its agent died.
    folder = Path(run.folder)
    for path in (folder / JOURNAL_FILE, folder):
        try:
            return max(0.0, now - path.stat().st_mtime)
        except OSError:
            continue
    return 0.0
