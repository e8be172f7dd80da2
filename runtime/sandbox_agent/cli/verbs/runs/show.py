"""`sandbox-agent show`: one run, from its first message to its end."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.message_file import MessageFile
from sandbox_agent.cli.signals import Signals
from sandbox_agent.cli.verbs.runs.reading import as_json, mask_of, report_of
from sandbox_agent.exit_codes import ExitCode
from sandbox_agent.journal.events import COMMAND
from sandbox_agent.journal.folder import default_output_dir
from sandbox_agent.journal.status import Status
from sandbox_agent.reports.report import LOST, RUNNING, Report
from sandbox_agent.reports.runs.data import data_of
from sandbox_agent.reports.runs.figures import size
from sandbox_agent.reports.runs.text import text_of, workspace_of

_RESUMED = {LOST, *(status.value for status in Status)} - {Status.DONE, Status.RUNNING, Status.IDLE}
"""Statuses after which `resume` continues a run as it is."""


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Prints the run as text, or writes it as a page."""
    report = report_of(arguments.run, arguments)
    page = None
    if arguments.html not in (None, "-"):
        workspace = workspace_of(report)
        page = MessageFile(arguments.html, "--html", [Path(workspace)] if workspace else [])
    if arguments.html is not None:
        return _write_page(report, page, console, signals)
    masked = mask_of(report).apply
    if arguments.json:
        console.stdout.write(as_json(data_of(report, masked)))
        return ExitCode.DONE
    for line in text_of(report, masked, whole=arguments.whole):
        console.out(f"{line}\n", lambda: False)
    if (next_command := _next(report)) is not None:
        console.err(f"next: {next_command}\n")
    return ExitCode.DONE


def _write_page(
    report: Report, page: MessageFile | None, console: Console, signals: Signals
) -> int:
    """Writes the run as one HTML file. page: None for standard output."""
    from sandbox_agent.reports.page import html_of

    pieces = html_of(report, mask_of(report))
    if page is None:
        for piece in pieces:
            console.out(piece, lambda: False)
        return ExitCode.DONE
    text = "".join(pieces)
    try:
        page.write(text, lambda: signals.late is not None)
    except OSError as error:
        console.error(f"{page.name}: the page was not written: {error.strerror}")
        return ExitCode.OUTPUT_LOST
    console.err(f"{page.name}: {size(len(text.encode('utf-8', 'backslashreplace')))}\n")
    return ExitCode.DONE


def _next(report: Report) -> str | None:
    """The command that continues or follows the run."""
    if report.name == COMMAND and report.model == COMMAND:
        return None
    is_default = report.folder.parent == default_output_dir()
    run = report.run if is_default else shlex.quote(str(report.folder))
    if report.status == RUNNING:
        return f"sandbox-agent logs -f {run}"
    return f"sandbox-agent resume {run}" if report.status in _RESUMED else None
