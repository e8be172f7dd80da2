"""One run at the command line, from its conversation to its exit code."""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from sandbox_agent import events
from sandbox_agent.cli.changes import Snapshot, summary
from sandbox_agent.cli.console import Console
from sandbox_agent.cli.conversing import converse_until_over
from sandbox_agent.cli.progress import Progress
from sandbox_agent.cli.signals import Signals
from sandbox_agent.conversation import Conversation, OnEvent, RunResult
from sandbox_agent.errors import ConfigError
from sandbox_agent.record import Usage


def carry_out(
    make: Callable[[OnEvent], Conversation],
    arguments: argparse.Namespace,
    console: Console,
    signals: Signals,
    *,
    workspace: Path,
    runs: Path,
    time_limit: float | None,
) -> int:
    """Runs what `make` makes, tells of it, and returns the exit code.

    make: is given the listener for events. workspace: whose changes are told. runs: the folder of
    run folders, which may lie in it. time_limit: the run's, in seconds.
    """
    message_file = _message_file(arguments.message_file)
    progress = Progress()
    conversation: Conversation | None = None
    until = time.monotonic() + (time_limit or math.inf)

    def stopped() -> bool:
        """Whether to wait no longer for a reader that does not read. The budget of time counts
        as well: waiting here keeps the loop from seeing that it is spent."""
        token = conversation.cancel_token if conversation is not None else None
        asked = signals.first is not None or (token is not None and token.is_cancelled)
        return asked or time.monotonic() > until

    def on_event(event: events.AnyEvent) -> None:
        line = progress.line(event)
        if line is not None:
            console.err(line + "\n")
        if arguments.json:
            console.stdout.write(msgspec.json.encode(event) + b"\n", stopped)
        if isinstance(event, events.TurnTaken) and conversation is not None:
            # At once, so that it is heard with the next turn and keeps a last one from being it.
            for text in conversation.model.told(event.turn):
                conversation.send_message(text)

    workspace = workspace.absolute()  # as `runs` is, which is to be left out
    before = Snapshot.take(workspace, runs)
    signals.hold()
    conversation = make(on_event)
    result = converse_until_over(conversation, signals, die_with_parent=arguments.die_with_parent)
    _report(result, console)
    for line in summary(before, Snapshot.take(workspace, runs)):
        console.err(line + "\n")
    _final_message(result, message_file, arguments.json, console)
    return result.exit_code


def _report(result: RunResult, console: Console) -> None:
    console.err(": ".join(filter(None, (result.status.value, result.reason))) + "\n")
    for survivor in result.survivors:
        console.err(f"could not stop pid {survivor.pid}: {survivor.command}\n")
    if used := _used(result.record.usage):
        console.err(f"used: {used}\n")
    console.err(f"record: {result.run_dir}\n")


def _used(usage: Usage) -> str:
    """Tokens and money; "" where nobody counts them."""
    parts = []
    if usage.tokens:
        answers = "answer" if usage.requests == 1 else "answers"
        parts.append(f"{usage.tokens:,} tokens in {usage.requests} {answers}")
    if usage.cost_usd is not None:
        parts.append(f"${usage.cost_usd:.4f}" if usage.cost_usd < 1 else f"${usage.cost_usd:.2f}")
    return ", ".join(parts)


def _message_file(name: str | None) -> Path | None:
    """Refuses what can be known to fail before the run: afterwards the work would be done and
    its answer lost."""
    if name is None:
        return None
    path = Path(name)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(
            f"-o {name} cannot be written", file="command line", mend="name a file in a folder"
        )
    return path


def _final_message(
    result: RunResult, message_file: Path | None, as_json: bool, console: Console
) -> None:
    message = result.message
    if message is None:
        return
    text = message if message.endswith("\n") else message + "\n"
    if message_file is not None:
        _replace(message_file, text)
    if not as_json:
        console.out(text)


def _replace(path: Path, text: str) -> None:
    """Writes the file whole or not at all; a device or pipe (`-o /dev/fd/3`) is written to."""
    data = text.encode("utf-8", "backslashreplace")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(fd, "wb") as file:
                file.write(data)
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise ConfigError(
            f"the final message cannot be written: {error.strerror}", file=str(path)
        ) from None
