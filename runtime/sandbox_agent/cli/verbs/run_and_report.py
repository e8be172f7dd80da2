"""One run on the command line, from its conversation to its exit code."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.message_file import MessageFile
from sandbox_agent.cli.signals import Signals
from sandbox_agent.cli.verbs.run_under_signals import is_stopping, run_under_signals
from sandbox_agent.conversation import Conversation, OnEvent, RunResult
from sandbox_agent.journal import events
from sandbox_agent.journal.result_file import Usage
from sandbox_agent.reports.lines import Progress
from sandbox_agent.reports.workspace_changes import Snapshot, summary


def run_and_report(
    make: Callable[[OnEvent], Conversation],
    arguments: argparse.Namespace,
    console: Console,
    signals: Signals,
    *,
    workspace: Path,
    runs: Path,
    time_limit: float | None,
) -> int:
    """Runs the conversation of `make`, reports on it, and returns the exit code.

    make: called with the listener for events. workspace: its changes are reported. runs: the folder
    of run folders, which may be inside the workspace. time_limit: the run's, in seconds.
    """
    named = arguments.message_file
    message_file = None if named is None else MessageFile(named)
    progress = Progress()
    conversation: Conversation | None = None
    until = time.monotonic() + (time_limit or math.inf)

    def give_up() -> bool:
        """Whether to stop waiting for a reader that does not read. The time budget counts too,
        because waiting here keeps the event loop from noticing that it is spent."""
        return is_stopping(conversation, signals) or time.monotonic() > until

    def on_event(event: events.AnyEvent) -> None:
        line = progress.line(event)
        if line is not None:
            console.err(line + "\n")
        if arguments.json:
            console.stdout.write(msgspec.json.encode(event) + b"\n", give_up)
        if isinstance(event, events.TurnTaken) and conversation is not None:
            # At once, so that the next turn has it, and a final turn does not end the run.
            for text in conversation.model.user_messages(event.turn):
                conversation.send_message(text)

    workspace = workspace.absolute()  # like `runs`, which Snapshot leaves out
    before = Snapshot.take(workspace, runs)
    signals.hold()
    conversation = make(on_event)
    result = run_under_signals(conversation, signals, die_with_parent=arguments.die_with_parent)
    _report(result, console)
    for line in summary(before, Snapshot.take(workspace, runs)):
        console.err(line + "\n")
    _final_message(result, message_file, arguments.json, console)
    return result.exit_code


def _report(result: RunResult, console: Console) -> None:
    console.err(": ".join(filter(None, (result.status.value, result.reason))) + "\n")
    console.survivors(result.survivors)
    if used := _used(result.record.usage):
        console.err(f"used: {used}\n")
    console.err(f"record: {result.run_dir}\n")


def _used(usage: Usage) -> str:
    """Tokens and cost; "" if neither was counted."""
    parts = []
    if usage.tokens:
        answers = "answer" if usage.requests == 1 else "answers"
        parts.append(f"{usage.tokens:,} tokens in {usage.requests} {answers}")
    if usage.cost_usd is not None:
        parts.append(f"${usage.cost_usd:.4f}" if usage.cost_usd < 1 else f"${usage.cost_usd:.2f}")
    return ", ".join(parts)


def _final_message(
    result: RunResult, message_file: MessageFile | None, as_json: bool, console: Console
) -> None:
    message = result.message
    if message is None:
        return
    text = message if message.endswith("\n") else message + "\n"
    if message_file is not None:
        message_file.write(text)
    if not as_json:
        console.out(text)
