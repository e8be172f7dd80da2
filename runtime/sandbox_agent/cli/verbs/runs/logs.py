"""`sandbox-agent logs`: what a run did and printed, also while it is going."""

from __future__ import annotations

import argparse
import select
from collections.abc import Callable

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.signals import Signals
from sandbox_agent.cli.verbs.runs.reading import mask_of, runs_folder, unreadable
from sandbox_agent.errors import AgentError, ConfigError
from sandbox_agent.exit_codes import ExitCode
from sandbox_agent.journal import events
from sandbox_agent.journal.lookup import find_run
from sandbox_agent.reports.report import Report
from sandbox_agent.reports.runs.follow import End, Follower
from sandbox_agent.reports.runs.log import log_lines, output_text

_LOOK_MS = 100
"""Milliseconds between two looks at the journal."""

_POLLERR = select.POLLERR | select.POLLHUP | select.POLLNVAL


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Prints the run, or the output of one call. With -f until the run ends."""
    folder = find_run(arguments.run, runs_folder(arguments))
    try:
        follower = Follower(folder)
    except OSError as error:
        raise unreadable(folder, error) from None
    report = Report(folder.name, folder)
    wait = _waiter(console) if arguments.follow else None
    try:
        code = _print(arguments.call, report, follower, wait, console)
    except OSError as error:
        raise unreadable(folder, error) from None
    finally:
        follower.close()
    if arguments.follow:
        _say_why(follower.end, folder.name, console)
    return code


def _print(
    wanted: str | None,
    report: Report,
    follower: Follower,
    wait: Callable[[], bool] | None,
    console: Console,
) -> int:
    masked = mask_of(report).apply
    for event in follower.events(wait):
        report.apply(event)
        if isinstance(event, events.SegmentStarted):
            masked = mask_of(report).apply  # this says which variables tools get
        if wanted is None:
            for line in log_lines(report, event, masked):
                _write(console, f"{line}\n")
        elif isinstance(event, events.Ended) and event.call == wanted:
            _write(console, output_text(report, event, masked))
            return ExitCode.DONE
        if console.stdout.error is not None:
            follower.end = End.STOPPED
    if wanted is not None and follower.end is not End.STOPPED:
        raise _no_output(wanted, report)
    return ExitCode.DONE


def _write(console: Console, text: str) -> None:
    """Waits while the queue is full: a log may be longer than memory."""
    console.out(text, lambda: False)


def _waiter(console: Console) -> Callable[[], bool]:
    """Waits a moment, or until the reader of standard output has closed: poll(2) says that at
    once, also while there is nothing to write."""
    poller = select.poll()
    poller.register(1, 0)

    def wait() -> bool:
        ready = poller.poll(_LOOK_MS)
        return console.stdout.error is None and not any(what & _POLLERR for _, what in ready)

    return wait


def _no_output(call: str, report: Report) -> AgentError:
    if call in report.calls:
        return AgentError(
            f"{call} of the run {report.run} has no end yet, and so no output\n"
            "  hint: -f waits for it; if the agent is dead, its output is lost"
        )
    import difflib  # here, because only an error needs it

    near = difflib.get_close_matches(call, report.calls, n=1)
    hint = f"did you mean {near[0]}?" if near else "`sandbox-agent show` lists the calls"
    return ConfigError(f"the run {report.run} has no call {call}", field="CALL", hint=hint)


def _say_why(end: End | None, run: str, console: Console) -> None:
    if end is End.LOST:
        console.err(
            f"the agent of the run {run} is dead\n"
            f"  hint: `sandbox-agent resume {run}` continues the run\n"
        )
    elif end in (End.IDLE, End.REMOVED):
        console.err(f"{end.value}\n")
