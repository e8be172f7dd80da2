"""`sandbox-agent validate`: everything about a task file that can be known without starting it."""

from __future__ import annotations

import argparse

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.signals import Signals
from sandbox_agent.cli.task_arguments import task_of
from sandbox_agent.wiring import check


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Checks it and says so. What is wrong is a ConfigError, and exit code 2."""
    task, source = task_of(arguments, console)
    check(task, source)
    console.out(f"{source.start.file}: valid\n")
    return 0
