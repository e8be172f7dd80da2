"""`sandbox-agent exec`: one command in the sandbox, as a conversation with one call.

So it has a journal and a record, and is stopped like every other call.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import signal
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sandbox_agent_ipc.futures import call_soon, resolve
from sandbox_agent_ipc.messages import ToolSpec
from sandbox_agent_ipc.token import CancelToken
from sandbox_agent_sandbox.inside.tools.shell import exec_argv
from sandbox_agent_sandbox.outcome import Outcome, StartedState
from sandbox_agent_sandbox.policy.policy import Policy
from sandbox_agent_sandbox.protection.finding import Finding
from sandbox_agent_sandbox.utf8 import argument_text

from sandbox_agent.cli.console import CLOSE_SECONDS, Console, patience
from sandbox_agent.cli.durations import seconds_of
from sandbox_agent.cli.signals import Signals
from sandbox_agent.cli.standard_input import StandardInput
from sandbox_agent.cli.verbs.run_under_signals import run_under_signals
from sandbox_agent.config.settings import Interrupt, ToolChoice, Workspace
from sandbox_agent.config.workspace import problem_with
from sandbox_agent.conversation import Conversation
from sandbox_agent.errors import AgentFailed, ConfigError, NotRecorded
from sandbox_agent.exit_codes import ExitCode, by_signal
from sandbox_agent.journal import events
from sandbox_agent.journal.history import AssistantMessage, Message
from sandbox_agent.models import Model, ModelCall, ModelTurn, OnDelta
from sandbox_agent.wiring.first_message import tell

_STOPPED = (Outcome.CANCELLED, Outcome.KILLED, Outcome.SKIPPED)


class _CommandFailed(AgentFailed):
    """The command failed, so the record says that the run failed."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"the command ended with exit code {exit_code}")
        self.exit_code = exit_code


class _OneCall(Model):
    """A model that calls one command. arguments: of `exec_argv`. ended: a listener appends the end
    of the call to it."""

    name = "exec"

    def __init__(self, arguments: dict[str, Any], ended: Sequence[events.Ended]) -> None:
        self._arguments = arguments
        self._ended = ended

    async def complete(
        self,
        history: Sequence[Message],
        tools: Sequence[ToolSpec],
        token: CancelToken,
        on_delta: OnDelta,
    ) -> ModelTurn:
        if any(isinstance(message, AssistantMessage) for message in history):
            code = _exit_code(self._ended[0]) if self._ended else ExitCode.EXEC_FAILED
            if code:
                raise _CommandFailed(code)
            return ModelTurn(text="", final=True)
        return ModelTurn(text="", calls=(ModelCall(tools[0].name, self._arguments),))


def main(arguments: argparse.Namespace, console: Console, signals: Signals) -> int:
    """Runs the command and passes its output on as it arrives. Returns its exit code."""
    argv = _argv(arguments.command)
    policy, workspace = _policy(arguments), _workspace(arguments.workspace)
    try:
        policy = _with_flags(policy, arguments, workspace)
    except ConfigError as error:
        console.error(str(error))
        return error.exit_code
    ended: list[events.Ended] = []
    passer, stdin = console.passer(), StandardInput()

    def on_output(call: str, stream: str, data: bytes) -> object:
        """A slow reader slows the command down, and holds nothing else up."""
        target = passer(stream, data)
        if target.error is not None:  # for example, `... | head` has closed it
            return False
        if not target.is_full:
            return None
        loop = asyncio.get_running_loop()
        room: asyncio.Future[None] = loop.create_future()
        target.call_when_it_has_room(partial(call_soon, loop, resolve, room))
        return room

    def on_event(event: events.AnyEvent) -> None:
        if isinstance(event, events.SegmentStarted) and not arguments.quiet:
            _say_plan(event.plan, console)
        elif isinstance(event, events.Started):
            stdin.start()
        elif isinstance(event, events.CancelRequested):
            stdin.pause()
        elif isinstance(event, events.Ended):
            ended.append(event)

    conversation = Conversation(
        model=_OneCall({"argv": argv, **_cwd(arguments.chdir)}, ended),
        tools=[ToolChoice(exec_argv)],
        agents_md=False,  # there is no model to tell
        workspace=Workspace(path=workspace, allow_home=arguments.allow_home),
        sandbox=policy,
        interrupt=_interrupt(arguments.grace),
        output_dir=Path(arguments.out).absolute() if arguments.out else None,
        name="exec",
        task_files=[arguments.policy] if arguments.policy else None,
        on_event=on_event,
        on_output=on_output,
        separate_output=not console.one_file,
        stdin=None if stdin.read_end is None else stdin.read_end.number,
    )
    signals.hold()
    tell(conversation, " ".join(argv))
    try:
        result = run_under_signals(conversation, signals, die_with_parent=arguments.die_with_parent)
    finally:
        stdin.stop()
    console.survivors(result.survivors)
    _list(result.record.findings, console)
    if result.survivors:
        return ExitCode.SURVIVORS
    if not ended:
        if result.exit_code < 128:
            console.error(result.reason)
        return result.exit_code if result.exit_code >= 128 else ExitCode.EXEC_FAILED
    code = _report(ended[0], result.exit_code, stdin, console, signals)
    if isinstance(result.error, NotRecorded):
        console.error(result.reason)
        # The code of a command that was stopped for this is not its own.
        own = ended[0].outcome in (Outcome.OK, Outcome.ERROR)
        return code if own and code else ExitCode.EXEC_FAILED
    return code


def _say_plan(plan: Mapping[str, Any] | None, console: Console) -> None:
    """A plan that is not full, unless the line would stand in what a program reads: there, both
    streams lead to one file or pipe."""
    if console.one_file and not console.stderr.is_terminal:
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
    end: events.Ended, run_code: int, stdin: StandardInput, console: Console, signals: Signals
) -> int:
    """Waits until the output is written, and says what is lost. Returns the exit code."""
    interrupted = end.outcome in _STOPPED and run_code >= 128
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
        return run_code if interrupted else code
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


def _with_flags(policy: Policy, arguments: argparse.Namespace, workspace: Path) -> Policy:
    if not arguments.pairs and not arguments.share_net:
        return policy
    # Here, since few commands have them.
    from sandbox_agent.config.policy_flags import with_flags

    return with_flags(policy, arguments.pairs, arguments.share_net, workspace)


def _workspace(given: str | None) -> Path:
    workspace = Path(given or ".").absolute()
    problem = problem_with(workspace)
    if problem is not None:
        what, hint = problem
        raise ConfigError(what, file="--workspace", hint=hint)
    return workspace


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


def _interrupt(given: str | None) -> Interrupt:
    grace = seconds_of("--grace", given)
    return Interrupt() if grace is None else Interrupt(grace=grace)


def _policy(arguments: argparse.Namespace) -> Policy:
    """The policy of --policy or the default, without a time limit unless one was given."""
    policy = Policy()
    if arguments.policy:
        # Here, since few commands have one: it imports yaml and what a task file may hold.
        from sandbox_agent.config.policy_file import read_policy

        policy = read_policy(Path(arguments.policy))
    given = seconds_of("--timeout", arguments.timeout)
    if given == 0:
        raise ConfigError("must be more than 0", file="--timeout", hint="leave it out for no limit")
    written = "timeout" in policy.limits.model_fields_set
    timeout = given if given is not None else policy.limits.timeout if written else None
    limits = policy.limits.model_copy(update={"timeout": timeout})
    degraded = arguments.allow_degraded or policy.allow_degraded
    return policy.model_copy(update={"limits": limits, "allow_degraded": degraded})
