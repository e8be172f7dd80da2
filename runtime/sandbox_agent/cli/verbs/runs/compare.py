"""`sandbox-agent compare`: what differs between two runs."""

from __future__ import annotations

import argparse

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.signals import Signals
from sandbox_agent.cli.verbs.runs.reading import (
    as_json,
    mask_of,
    report_of,
    terminal_width,
)
from sandbox_agent.exit_codes import ExitCode
from sandbox_agent.reports.runs.compare import compared, comparison_lines


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Prints the two runs beside each other."""
    left, right = report_of(arguments.run, arguments), report_of(arguments.other, arguments)
    masks = mask_of(left), mask_of(right)
    found = compared(left, right, lambda text: masks[1].apply(masks[0].apply(text)))
    if arguments.json:
        console.stdout.write(as_json(found))
    else:
        for line in comparison_lines(found, terminal_width(console)):
            console.out(f"{line}\n", lambda: False)
    return ExitCode.DONE
