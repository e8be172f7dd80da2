"""`sandbox-agent resume`: continues a run that was stopped, paused, or killed."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.reporting.reports import Reports
from sandbox_agent.cli.signals import Signals
from sandbox_agent.cli.task_arguments import SHARED_FLAGS, overrides_of, prompt_text
from sandbox_agent.cli.verb_arguments import KINDS
from sandbox_agent.cli.verbs.run_and_report import run_and_report
from sandbox_agent.config.settings import settings_from
from sandbox_agent.config.workspace import refuse_home
from sandbox_agent.conversation import Conversation
from sandbox_agent.journal.folder import unwritable
from sandbox_agent.journal.lookup import find_run
from sandbox_agent.journal.recorder import OnEvent
from sandbox_agent.resume import PastRun
from sandbox_agent.wiring.resume_options import changed_options


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Runs one more segment of the run. Its end decides the exit code."""
    message = None if arguments.prompt is None else prompt_text(arguments.prompt)
    folder = find_run(arguments.run, Path(arguments.out) if arguments.out else None)
    with PastRun(folder) as past:
        options = changed_options(past, arguments.set, overrides_of(arguments, SHARED_FLAGS))

        def make(on_event: OnEvent, others: Mapping[str, Any]) -> Conversation:
            options.update(others, on_event=on_event)
            past.on_taken = signals.hold
            try:
                conversation = Conversation.resume(past, message=message, **options)
            except OSError as error:
                raise unwritable(f"{past.journal} cannot be written", error) from None
            if not arguments.quiet:
                console.err(f"run {folder.name}, resumed\n")
            return conversation

        known = settings_from(
            {name: value for name, value in options.items() if name != "model"},
            None if past.settings is None else past.settings.task,
        )
        paths = {kind: path for kind in KINDS if (path := getattr(arguments, kind)) is not None}
        place = known.workspace.path
        refuse_home(place, allowed=arguments.allow_home)
        writable = [place, *(place / path for path in known.sandbox.write)]
        with Reports(paths, console, folder, writable=writable, quiet=arguments.quiet) as reports:
            return run_and_report(
                make,
                arguments,
                console,
                signals,
                workspace=place,
                writable=writable,
                runs=folder.parent,
                reports=reports,
                time_limit=known.budgets.time,
            )
