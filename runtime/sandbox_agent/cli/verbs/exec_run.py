"""What `exec` does once its command line is checked."""

from __future__ import annotations

import argparse
import gc
import math
import os
import signal
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox_agent_ipc.futures import call_soon, resolve, running_loop
from sandbox_agent_sandbox.outcome import Outcome, StartedState
from sandbox_agent_sandbox.plan import PlanKind
from sandbox_agent_sandbox.protection.finding import Finding
from sandbox_agent_sandbox.utf8 import argument_text

from sandbox_agent.cli import parent
from sandbox_agent.cli.console import CLOSE_SECONDS, Console, patience
from sandbox_agent.cli.signals import Signals
from sandbox_agent.cli.standard_input import StandardInput
from sandbox_agent.config.plain import PlainSettings, plain_record
from sandbox_agent.errors import ConfigError, NotRecorded
from sandbox_agent.exit_codes import ExitCode, by_signal
from sandbox_agent.journal import events
from sandbox_agent.journal.events import COMMAND
from sandbox_agent.journal.result import RunResult
from sandbox_agent.journal.status import Status
from sandbox_agent.lone.lone_run import LoneRun
from sandbox_agent.lone.opening import Opening
from sandbox_agent.models.no_model import NoModel
from sandbox_agent.run.parts import Callbacks, Setup, put_together

if TYPE_CHECKING:
    from asyncio import Future

    from sandbox_agent.run.sandbox import ConversationSandbox


def make_setup(
    settings: PlainSettings,
    run_dir: Path,
    task_files: tuple[str, ...],
    host: ConversationSandbox,
    arguments: argparse.Namespace,
    console: Console,
) -> tuple[Setup, StandardInput]:
    """What the run is made from, and what the command reads. Raises ConfigError."""
    stdin = StandardInput()
    callbacks = _callbacks(arguments, console, stdin)
    record = plain_record(settings)
    model = NoModel(COMMAND)
    setup = put_together(
        run_dir, model, COMMAND, settings, record, callbacks, task_files, host=host
    )
    return setup, stdin


def run_command(
    setup: Setup,
    opening: Opening,
    stdin: StandardInput,
    argv: Sequence[str],
    arguments: argparse.Namespace,
    console: Console,
    signals: Signals,
) -> int:
    """Runs the command and passes its output on as it arrives. Returns its exit code.

    opening: of its sandbox, which has begun.
    """
    run = LoneRun(setup, opening)
    signals.hold()
    try:
        result = _run(run, argv, arguments, signals)
    except Exception as error:
        # For the message that says where the traceback is.
        error.run_dir = setup.recorder.folder  # type: ignore[attr-defined]
        raise
    finally:
        stdin.stop()
    console.survivors(result.survivors)
    _list(result.record.findings, console)
    if result.survivors:
        return ExitCode.SURVIVORS
    ended = run.ended
    if ended is None:
        if result.exit_code < 128:
            console.error(result.reason)
        return result.exit_code if result.exit_code >= 128 else ExitCode.EXEC_FAILED
    stopped = result.status is Status.INTERRUPTED
    code = _report(ended, result.exit_code if stopped else None, stdin, console, signals)
    if isinstance(result.error, NotRecorded):
        console.error(result.reason)
        # The code of a command that was stopped for this is not its own.
        own = ended.outcome in (Outcome.OK, Outcome.ERROR)
        return code if own and code else ExitCode.EXEC_FAILED
    return code


def _callbacks(arguments: argparse.Namespace, console: Console, stdin: StandardInput) -> Callbacks:
    passer = console.passer()

    def on_output(call: str, stream: str, data: bytes) -> object:
        """A slow reader slows the command down, and holds nothing else up."""
        target = passer(stream, data)
        if target.error is not None:  # for example, `... | head` has closed it
            return False
        if not target.is_full:
            return None
        loop = running_loop()
        room: Future[None] = loop.create_future()
        target.call_when_it_has_room(partial(call_soon, loop, resolve, room))
        return room

    def on_event(event: events.AnyEvent) -> None:
        if isinstance(event, events.SegmentStarted) and not arguments.quiet:
            _say_plan(event.plan, console)
        elif isinstance(event, events.Started):
            stdin.start()
            gc.freeze()
            gc.enable()
        elif isinstance(event, events.CancelRequested):
            stdin.pause()

    return Callbacks(
        on_event=on_event,
        on_output=on_output,
        separate_output=not console.one_file,
        stdin=None if stdin.read_end is None else stdin.read_end.number,
    )


def _run(
    run: LoneRun, argv: Sequence[str], arguments: argparse.Namespace, signals: Signals
) -> RunResult:
    """Runs it, with INT, TERM and HUP as interrupts. Returns when everything has stopped."""

    def interrupt(signum: int) -> bool:
        run.interrupt(exit_code=by_signal(signum))
        return run.token.is_cancelled

    try:
        run.tell(" ".join(argv))
        signals.attach(interrupt, run)
        if parent.wanted(arguments.die_with_parent):
            parent.watch_parent(signals.strike, signals.parent)
        result = run.run({"argv": argv, **_cwd(arguments.chdir)}, _exit_code)
        signals.end(result.exit_code)
        return result
    finally:
        run.close()


def _say_plan(plan: Mapping[str, Any] | None, console: Console) -> None:
    """A plan that is not full, unless the line would stand in what a program reads: there, both
    streams lead to one file or pipe."""
    if console.one_file and not console.stderr.is_terminal:
        return
    if plan is None or plan["kind"] == PlanKind.FULL:
        return
    # Here, since a full plan needs none of it.
    from sandbox_agent.reports.walls import plan_line

    if line := plan_line(plan):
        console.error(line)


def _list(findings: Sequence[Finding], console: Console) -> None:
    if not findings:
        return
    # Here, since few commands have them.
    from sandbox_agent.reports.findings import finding_lines

    for line in finding_lines(findings):
        console.err(f"sandbox-agent: {line}\n")


def _report(
    end: events.Ended,
    stop_code: int | None,
    stdin: StandardInput,
    console: Console,
    signals: Signals,
) -> int:
    """Waits until the output is written, and says what is lost. Returns the exit code.

    stop_code: of a run that was stopped, None for another.
    """
    # Also where the command had ended by itself just before: the record says the same.
    interrupted = stop_code is not None
    code = _exit_code(end)
    if end.outcome is Outcome.TIMEOUT:
        told = [f"limit: {one.text}" for one in end.limits if one.limit != "output"]
        console.error("; ".join(["the time limit of the command was reached", *told]))
    elif end.detail and (end.outcome in (Outcome.OK, Outcome.ERROR) or end.limits):
        # Without an exit status it is no command's failure, so nothing has said yet what it is.
        said = "" if end.exit_status is not None else end.content
        what = "; ".join(filter(None, (said, end.detail)))
        console.error(what.replace("; hint: ", "\n  hint: "))
    elif code == ExitCode.EXEC_FAILED and end.exit_status != code and not interrupted:
        console.error(end.detail or end.content or f"the command ended as {end.outcome.value}")
    stopped = interrupted or end.outcome is Outcome.TIMEOUT
    patient = patience(CLOSE_SECONDS if stopped else math.inf)
    loss = console.finish(lambda: signals.late is not None or patient())
    if stdin.error is not None:
        console.error(f"standard input could not be read: {stdin.error.strerror}")
    if stdin.typed:
        console.error(
            f"{stdin.typed} bytes that were typed are lost: the command did not read them"
        )
    if stopped:
        return code if stop_code is None else stop_code
    if signals.late is not None and loss is not None and not loss.is_failure:
        return by_signal(signals.late)
    if stdin.error is not None or (loss is not None and loss.is_failure):
        return ExitCode.EXEC_FAILED
    return code or (0 if loss is None else by_signal(signal.SIGPIPE))


def _exit_code(end: events.Ended) -> int:
    """The exit code of the command, as a shell gives it."""
    if end.outcome is Outcome.TIMEOUT:
        return ExitCode.COMMAND_TIMEOUT
    if end.started is not StartedState.YES or end.exit_status is None:
        return ExitCode.EXEC_FAILED
    return end.exit_status if end.exit_status >= 0 else by_signal(-end.exit_status)


def _cwd(given: str | None) -> dict[str, str]:
    if given is None:
        return {}
    folder = os.path.abspath(os.path.expanduser(given))
    try:
        return {"cwd": argument_text(folder)}
    except UnicodeError:
        shown = repr(os.fsencode(given))
        raise ConfigError(
            f"{shown} is not UTF-8", file="--chdir", hint="encode it in UTF-8"
        ) from None
