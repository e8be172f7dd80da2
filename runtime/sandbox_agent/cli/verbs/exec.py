"""`sandbox-agent exec`: one command in the sandbox, with a journal and a record, stopped like every
other call.

It is called where the shell calls the program itself. So nothing is imported that it can do
without: no pydantic, yaml, asyncio or psutil. This module checks the command line, with little
more than msgspec; `exec_run` does the rest.
"""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from sandbox_agent_sandbox.errors import SandboxUnavailable
from sandbox_agent_sandbox.policy.fields.plain import POLICY, PlainPolicy
from sandbox_agent_sandbox.utf8 import argument_text

from sandbox_agent.cli.console import Console
from sandbox_agent.cli.durations import seconds_of
from sandbox_agent.cli.signals import Signals
from sandbox_agent.config.functions import FunctionPlace
from sandbox_agent.config.plain import (
    MAX_PERIOD,
    PlainInterrupt,
    PlainSettings,
    PlainTool,
    PlainWorkspace,
)
from sandbox_agent.config.workspace import problem_with, usable_workspace
from sandbox_agent.errors import ConfigError
from sandbox_agent.source_root import SANDBOX_ROOT
from sandbox_agent.tools.exec_tool import EXEC

if TYPE_CHECKING:
    from sandbox_agent_sandbox.host.cell import Cell
    from sandbox_agent_sandbox.policy.policy import Policy

    from sandbox_agent.lone.opening import Opening


_LEAVE_SECONDS = 0.3
"""What a signal that ends the command leaves to the end of a sandbox that is being built."""


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Runs the command and passes its output on as it arrives. Returns its exit code."""
    gc.disable()  # while more is imported; `exec_run` turns it on again
    try:
        return _main(arguments, console, signals)
    finally:
        gc.enable()


def _main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    argv = _argv(arguments.command)
    policy = _written_policy(arguments.policy)
    timeout = seconds_of("--timeout", arguments.timeout)
    if timeout == 0:
        raise ConfigError("must be more than 0", file="--timeout", hint="leave it out for no limit")
    workspace = _workspace(arguments.workspace)
    try:
        policy = _with_flags(policy, arguments, workspace)
    except ConfigError as error:
        console.error(str(error))
        return error.exit_code
    settings = _settings(arguments, _plain(policy, timeout, arguments.allow_degraded), workspace)
    # The sandbox's first process imports what it needs while this one does.
    cell = _started_cell(settings.interrupt)
    opening: Opening | None = None
    try:
        # Imported here: what is wrong with the command line is said without it.
        from sandbox_agent.journal.folder import place_of_run
        from sandbox_agent.lone.opening import Opening

        run_dir, _ = place_of_run(Path(arguments.out).absolute() if arguments.out else None, None)
        task_files = _task_files(arguments.policy)
        opening = Opening(settings, run_dir, task_files, cell)
        if cell is not None:
            signals.on_leave = partial(_leave, signals.on_leave, cell)
        opening.begin()
        opening.build()
        from sandbox_agent.cli.verbs.exec_run import make_setup, run_command

        setup, stdin = make_setup(settings, run_dir, task_files, opening.host, arguments, console)
        return run_command(setup, opening, stdin, argv, arguments, console, signals)
    finally:
        # Again, if there was a run.
        if opening is not None:
            opening.close()
        elif cell is not None:
            cell.close()


def _leave(before: Callable[[str], object], cell: Cell, words: str) -> None:
    """A signal ends the command before its run, or in its last moments: take the sandbox down."""
    before(words)
    cell.begin_close(_LEAVE_SECONDS)


def _task_files(policy: str | None) -> tuple[str, ...]:
    if policy is None:
        return ()
    # Here, since few commands have one.
    from sandbox_agent.run.parts import task_paths

    return task_paths([policy])


def _started_cell(interrupt: PlainInterrupt) -> Cell | None:
    """None where it cannot be started. Then the run makes another one, and says why."""
    from sandbox_agent_sandbox.host.cell import Cell

    with suppress(SandboxUnavailable):
        cell = Cell(grace=interrupt.grace, term=interrupt.term)
        cell.start()
        return cell
    return None


def _argv(given: list[str]) -> list[str]:
    argv = given[1:] if given[:1] == ["--"] else given
    if not argv or not argv[0]:
        raise ConfigError(
            "no command was given", file="command line", hint="write exec -- COMMAND ARGUMENTS"
        )
    texts = []
    for word in argv:
        try:
            texts.append(argument_text(word))
        except UnicodeError:
            raise ConfigError(
                f"{os.fsencode(word)!r} is not UTF-8",
                file="command line",
                hint="encode it in UTF-8",
            ) from None
    return texts


def _workspace(given: str | None) -> Path:
    workspace = Path(given or ".").absolute()
    problem = problem_with(workspace)
    if problem is not None:
        what, hint = problem
        raise ConfigError(what, file="--workspace", hint=hint)
    return workspace


def _settings(arguments: argparse.Namespace, policy: PlainPolicy, workspace: Path) -> PlainSettings:
    usable = usable_workspace(workspace, allow_home=arguments.allow_home, write=policy.write)
    return PlainSettings(
        workspace=PlainWorkspace(usable, allow_home=arguments.allow_home),
        tools=[PlainTool(FunctionPlace(EXEC, root=SANDBOX_ROOT))],
        agents_md=False,  # there is no model to tell
        sandbox=policy,
        interrupt=_interrupt(arguments.grace),
        spares=0,  # there is one call
    )


def _written_policy(path: str | None) -> Policy | None:
    if path is None:
        return None
    # Here, since few commands have one: it imports yaml and what a task file may hold.
    from sandbox_agent.config.policy_file import read_policy

    return read_policy(Path(path))


def _with_flags(
    policy: Policy | None, arguments: argparse.Namespace, workspace: Path
) -> Policy | None:
    if not arguments.pairs and not arguments.share_net:
        return policy
    # Here, since few commands have them.
    from sandbox_agent_sandbox.policy.policy import Policy

    from sandbox_agent.config.policy_flags import with_flags

    before = Policy() if policy is None else policy
    return with_flags(before, arguments.pairs, arguments.share_net, workspace)


def _plain(
    policy: Policy | None, timeout: float | None, allow_degraded: list[str] | None
) -> PlainPolicy:
    """This policy, or the default one; without a time limit unless one was given."""
    known = POLICY
    if policy is not None:
        from sandbox_agent_sandbox.policy.policy import plain

        known = plain(policy)
        if timeout is None and "timeout" in policy.limits.model_fields_set:
            timeout = known.limits.timeout
    limits = msgspec.structs.replace(known.limits, timeout=timeout)
    degraded = allow_degraded or known.allow_degraded
    return msgspec.structs.replace(known, limits=limits, allow_degraded=degraded)


def _interrupt(given: str | None) -> PlainInterrupt:
    grace = seconds_of("--grace", given)
    if grace is None:
        return PlainInterrupt()
    if grace > MAX_PERIOD:
        from sandbox_agent.config.settings import Interrupt

        Interrupt(grace=grace)  # says what is wrong
    return PlainInterrupt(grace=grace)
