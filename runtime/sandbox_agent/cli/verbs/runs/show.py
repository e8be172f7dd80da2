"""`sandbox-agent show`: one run, from its first message to its end."""

from __future__ import annotations

import argparse
import shlex

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.signals import Signals
from sandbox_agent.cli.verbs.runs.reading import mask_of, report_of, runs_folder
from sandbox_agent.exit_codes import ExitCode
from sandbox_agent.journal.lookup import COMMAND
from sandbox_agent.journal.status import Status
from sandbox_agent.reports.report import LOST, RUNNING, Report
from sandbox_agent.reports.runs.text import text_of

_RESUMED = {LOST, *(status.value for status in Status)} - {Status.DONE, Status.RUNNING, Status.IDLE}
"""Statuses after which `resume` continues a run as it is."""


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Prints the run as text."""
    report = report_of(arguments.run, arguments)
    masked = mask_of(report)
    for line in text_of(report, masked, whole=arguments.whole):
        console.out(f"{line}\n", lambda: False)
    if (next_command := _next(report, arguments)) is not None:
        console.err(f"next: {next_command}\n")
    return ExitCode.DONE


def _next(report: Report, arguments: argparse.Namespace) -> str | None:
    """The command that continues or follows the run."""
    if report.name == COMMAND and report.model == COMMAND:
        return None
    out = f" --out {shlex.quote(str(runs_folder(arguments)))}" if arguments.out else ""
    if report.status == RUNNING:
        return f"sandbox-agent logs -f{out} {shlex.quote(report.run)}"
    if report.status in _RESUMED:
        return f"sandbox-agent resume{out} {shlex.quote(report.run)}"
    return None
