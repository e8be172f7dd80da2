"""`sandbox-agent report`: the reports of a run, from its journal."""

from __future__ import annotations

import argparse
import os
from contextlib import closing
from pathlib import Path

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.reporting.report_file import ReportFile
from sandbox_agent.cli.reporting.reports import is_step_summary, made, refuse_one_file
from sandbox_agent.cli.reporting.step_summary import StepSummary
from sandbox_agent.cli.signals import Signals
from sandbox_agent.cli.verb_arguments import KINDS
from sandbox_agent.errors import ConfigError, NotRecorded
from sandbox_agent.exit_codes import ExitCode
from sandbox_agent.journal.folder import is_fault_of_host
from sandbox_agent.journal.lookup import find_run
from sandbox_agent.reports.ci.cases import workspace_of
from sandbox_agent.reports.mask import mask_for
from sandbox_agent.reports.report import Report, read_report


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Writes the reports that are named; without one, prints the summary."""
    report = _read(find_run(arguments.run, Path(arguments.out) if arguments.out else None))
    if report.last is None:
        raise ConfigError(
            f"the run {report.run} has not begun, so there is nothing to report", field="RUN"
        )
    mask = mask_for(report, os.environ)
    paths = {kind: path for kind in KINDS if (path := getattr(arguments, kind)) is not None}
    if not paths:
        console.out(made("summary", report, mask).decode())
        return 0
    refuse_one_file(paths)
    code, place = 0, workspace_of(report)
    writable = [] if place is None else [place]
    files: dict[str, ReportFile] = {}
    try:
        for kind, path in paths.items():
            if not is_step_summary(kind, path):
                files[kind] = ReportFile(f"--{kind}", path, writable=writable)
        for kind, path in paths.items():
            data = made(kind, report, mask)
            try:
                if kind in files:
                    files[kind].write(data)
                else:
                    with closing(StepSummary(writable)) as step:
                        step.append(data)
            except OSError as error:
                console.error(f"--{kind}: {path} was not written: {error.strerror or error}")
                code = int(ExitCode.OUTPUT_LOST)
    finally:
        for file in files.values():
            file.close()
    return code


def _read(folder: Path) -> Report:
    try:
        return read_report(folder)
    except OSError as error:
        if is_fault_of_host(error):
            raise NotRecorded(f"{folder} cannot be read: {error.strerror}") from None
        raise ConfigError(
            f"{folder} cannot be read: {error.strerror}",
            field="RUN",
            hint="name a run of yours, or become the user that started it",
        ) from None
