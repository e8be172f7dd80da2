"""One run on the command line, from its conversation to its exit code."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sandbox_agent.cli.changes import Changes
from sandbox_agent.cli.console import CLOSE_SECONDS, Console, patience
from sandbox_agent.cli.message_file import MessageFile
from sandbox_agent.cli.reporting.reports import Reports
from sandbox_agent.cli.signals import Signals
from sandbox_agent.cli.stream import GiveUp
from sandbox_agent.cli.verbs.progress import RunProgress, progress_of
from sandbox_agent.cli.verbs.run_under_signals import is_stopping, run_under_signals
from sandbox_agent.conversation import Conversation, OnEvent, RunResult
from sandbox_agent.exit_codes import ExitCode, by_signal
from sandbox_agent.journal import events
from sandbox_agent.journal.file import JOURNAL_FILE
from sandbox_agent.journal.folder import default_output_dir
from sandbox_agent.journal.result_file import RESULT_FILE, Usage
from sandbox_agent.reports.ci.log_commands import disarm_json
from sandbox_agent.reports.findings import finding_lines
from sandbox_agent.reports.lines import how_it_ended
from sandbox_agent.reports.private_files import PrivateFiles
from sandbox_agent.run.sandbox import NOT_LOOKED


def run_and_report(
    make: Callable[[OnEvent, Mapping[str, Any]], Conversation],
    arguments: argparse.Namespace,
    console: Console,
    signals: Signals,
    *,
    workspace: Path,
    writable: Sequence[Path],
    runs: Path,
    reports: Reports,
    time_limit: float | None,
) -> int:
    """Runs the conversation of `make`, reports on it, and returns the exit code.

    make: called with the listener for events, and with others by the names of options; it calls
    `signals.hold()`. workspace: its changes are reported. writable: folders that tools can write.
    runs: the folder of run folders, which
    may be inside the workspace. reports: for a CI system. time_limit: the run's, in seconds.
    """
    named = arguments.message_file
    message_file = None if named is None else MessageFile(named, writable=writable)
    progress = progress_of(arguments, console, signals)
    private = PrivateFiles()
    conversation: Conversation | None = None
    until = time.monotonic() + (time_limit or math.inf)

    def give_up() -> bool:
        """Whether to stop waiting for a reader that does not read. The time budget counts too,
        because waiting here keeps the event loop from noticing that it is spent."""
        return is_stopping(conversation, signals) or time.monotonic() > until

    def on_event(event: events.AnyEvent) -> None:
        progress.on_event(event)
        private.hear(event)
        reports.hear(event)
        if arguments.json:
            console.stdout.write(disarm_json(msgspec.json.encode(event)) + b"\n", give_up)
        if isinstance(event, events.TurnTaken) and conversation is not None:
            # At once, so that the next turn has it, and a final turn does not end the run.
            for text in conversation.model.user_messages(event.turn):
                conversation.send_message(text)

    changes = Changes(workspace, runs, *reports.paths)
    conversation = make(on_event, progress.listeners())
    result = _run(conversation, arguments, signals, progress, reports)
    stopped = is_stopping(conversation, signals)
    _report(result, console, quiet=arguments.quiet)
    hangs = result.record.findings == NOT_LOOKED
    changed = [] if arguments.quiet else changes.lines(signals, hangs=hangs)
    for line in [*changed, *private.lines(), *finding_lines(result.record.findings)]:
        console.err(line + "\n")
    if progress.is_live:
        from sandbox_agent.reports.next_command import next_command

        what = next_command(result.status, result.run_dir, default_output_dir())
        console.err(f"next: {what}\n")
    left = 0 if stopped else until - time.monotonic()
    patient = patience(max(left, CLOSE_SECONDS))
    written = _final_message(
        result,
        message_file,
        arguments.json,
        console,
        lambda: signals.late is not None or patient(),
    )
    if result.exit_code or written:
        return result.exit_code
    return ExitCode.OUTPUT_LOST if signals.late is None else by_signal(signals.late)


def _run(
    conversation: Conversation,
    arguments: argparse.Namespace,
    signals: Signals,
    progress: RunProgress,
    reports: Reports,
) -> RunResult:
    progress.start()
    try:
        return run_under_signals(
            conversation,
            signals,
            die_with_parent=arguments.die_with_parent,
            freezer=progress.around(conversation),
        )
    finally:
        progress.stop()
        reports.write(conversation.run_dir)


def _report(result: RunResult, console: Console, *, quiet: bool) -> None:
    if not quiet or result.exit_code:
        colour = "red" if result.exit_code else "green"
        console.err(how_it_ended(result.status.value, result.reason) + "\n", colour)
    console.survivors(result.survivors)
    if quiet:
        return
    if used := _used(result.record.usage):
        console.err(f"used: {used}\n")
    if (result.run_dir / JOURNAL_FILE).exists():
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
    result: RunResult,
    message_file: MessageFile | None,
    as_json: bool,
    console: Console,
    give_up: GiveUp,
) -> bool:
    """Writes the message and waits until all output is written. Returns whether it was; if not,
    says so."""
    text = result.message
    if text is not None and not text.endswith("\n"):
        text += "\n"
    if text is not None and not as_json:
        console.out(text)
    console.says_closed = True
    loss = console.finish(give_up)
    if loss is not None and text is not None:
        console.err(f"  hint: the final message is in {result.run_dir / RESULT_FILE}\n")
    if text is not None and message_file is not None:
        try:
            message_file.write(text, give_up)
        except OSError as error:
            console.error(
                f"{message_file.name}: the final message was not written: {error.strerror}"
            )
            return False
    return loss is None
