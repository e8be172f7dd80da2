"""`sandbox-agent run`: one run of one task."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.reporting.reports import Reports
from sandbox_agent.cli.signals import Signals
from sandbox_agent.cli.task_arguments import assignment_of
from sandbox_agent.cli.verb_arguments import KINDS
from sandbox_agent.cli.verbs.run_and_report import run_and_report
from sandbox_agent.conversation import Conversation
from sandbox_agent.errors import ConfigError
from sandbox_agent.journal.folder import default_output_dir, refuse_used
from sandbox_agent.journal.recorder import OnEvent
from sandbox_agent.wiring.first_message import tell
from sandbox_agent.wiring.task import prepare, with_place


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Runs the task. Its end decides the exit code."""
    assignment = assignment_of(arguments)
    task, source = assignment.task, assignment.source

    def make(on_event: OnEvent, others: Mapping[str, Any]) -> Conversation:
        # Reads what the task names, which may hang. A signal still ends the command.
        conversation, prompts = prepare(task, source, on_event=on_event, others=others)
        signals.hold()
        for prompt in prompts:
            tell(conversation, prompt)
        return conversation

    output = task.output
    named = {kind: getattr(output, kind) for kind in KINDS}
    paths = {kind: str(path) for kind, path in named.items() if path is not None}
    place = task.workspace.path
    writable = [place, *(place / path for path in task.sandbox.write)]
    try:
        if output.run_dir is not None:
            # Before a file is touched that may be another run's.
            refuse_used(output.run_dir)
        with Reports(
            paths,
            console,
            writable=writable,
            run_dir=output.run_dir,
            quiet=arguments.quiet,
        ) as reports:
            return run_and_report(
                make,
                arguments,
                console,
                signals,
                workspace=place,
                writable=writable,
                runs=(output.run_dir or output.dir or default_output_dir()).absolute(),
                reports=reports,
                time_limit=task.budgets.time,
            )
    except ConfigError as error:
        raise with_place(error, task, source) from None
