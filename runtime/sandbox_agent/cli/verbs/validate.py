"""`sandbox-agent validate`: checks a task file without starting anything."""

from __future__ import annotations

import argparse

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.signals import Signals
from sandbox_agent.cli.task_arguments import assignment_of
from sandbox_agent.wiring.task import prepare


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Checks the task file. Raises ConfigError, exit code 2, if something is wrong."""
    assignment = assignment_of(arguments)
    prepare(assignment.task, assignment.source)
    console.out(f"{assignment.source.start.file}: valid\n")
    return 0
