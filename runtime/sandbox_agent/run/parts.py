"""What a run is made from, put together and checked once: from settings of either kind."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from sandbox_agent_sandbox.utf8 import is_utf8

from sandbox_agent.config.notices import notices
from sandbox_agent.embedding.warn import notify
from sandbox_agent.errors import ConfigError
from sandbox_agent.first_imports import take_left_out
from sandbox_agent.journal.events import AgentsFile, AnyEvent, RecordedSettings, SegmentStarted
from sandbox_agent.journal.folder import hidden_from_tools
from sandbox_agent.journal.recorder import OnEvent, Recorder
from sandbox_agent.models import Model, OnDelta
from sandbox_agent.reports.log import log_event
from sandbox_agent.run.call import Caller, OnOutput, kept_output
from sandbox_agent.run.run_journal import RunJournal
from sandbox_agent.run.sandbox import ConversationSandbox
from sandbox_agent.run.secrets import check_keys

if TYPE_CHECKING:
    from sandbox_agent.config.any_settings import AnySettings


class Callbacks(msgspec.Struct, frozen=True):
    """How the embedding program takes part in a run. Not in the journal."""

    durable: bool = False
    on_event: OnEvent | None = None
    on_output: OnOutput | None = None
    on_delta: OnDelta | None = None
    separate_output: bool = False
    stdin: int | None = None


class Setup(msgspec.Struct, frozen=True):
    """What does not change between the runs of a conversation.

    settings: checked, with the workspace as an absolute path. recorded: the same with the model, as
    the journal keeps them.
    """

    model: Model
    settings: AnySettings
    recorded: RecordedSettings
    callbacks: Callbacks
    host: ConversationSandbox
    recorder: Recorder
    name: str | None


def put_together(
    run_dir: Path,
    model: Model,
    name: str | None,
    settings: AnySettings,
    record: dict[str, Any],
    callbacks: Callbacks,
    task_files: tuple[str, ...],
    *,
    host: ConversationSandbox | None = None,
    recorder: type[Recorder] = Recorder,
    run: str | None = None,
) -> Setup:
    """The setup of a run. Starts and writes nothing.

    settings: with the workspace as an absolute path. record: the same, as the journal keeps them.
    host: its sandbox; None to make one. recorder: the class of what records. Raises ConfigError.
    """
    workspace = settings.workspace.path
    check_keys(settings, model, os.environ)
    if files := take_left_out():
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        notify(
            f"not imported: {', '.join(files[:3])}{more}. Tools may write there, and Python, an"
            " installed package or sandbox-agent has or looks for a module of that name\n"
            "  hint: rename it, or remove it if you did not write it"
        )
    for notice in notices(settings.sandbox, workspace, os.environ):
        notify(notice)
    keep = RecordedSettings(model.name, model.options, record, task_files)
    _refuse_other_bytes(keep, name)
    if host is None:
        hidden = hidden_from_tools(run_dir, workspace)
        host = ConversationSandbox(settings, tuple(hidden), tuple(map(Path, task_files)))
    return Setup(
        model=model,
        settings=settings,
        recorded=keep,
        callbacks=callbacks,
        host=host,
        recorder=recorder(
            run_dir, name, _logged(run or run_dir.name, callbacks.on_event), keep, run
        ),
        name=name,
    )


def task_paths(given: Sequence[Path | str]) -> tuple[str, ...]:
    """The absolute paths of the files that a task was read from. Warns of one that a record cannot
    name."""
    paths = [os.path.abspath(path) for path in given]
    for path in paths:
        if not is_utf8(path):
            notify(
                f"{os.fsencode(path)!r} is not UTF-8, so it is not protected from tools\n"
                "  hint: rename it"
            )
    return tuple(filter(is_utf8, paths))


def caller_for(setup: Setup, journal: RunJournal) -> Caller:
    """What makes the calls of a run, once its sandbox is open."""
    cell, limits = setup.host.cell, setup.settings.sandbox.limits
    assert cell is not None
    return Caller(
        cell=cell,
        journal=journal,
        folder=setup.recorder.folder,
        workspace=setup.settings.workspace.path,
        writable=setup.host.writable(),
        output_limit=kept_output(limits),
        time_limit=limits.timeout,
        on_output=setup.callbacks.on_output,
        separate_output=setup.callbacks.separate_output,
        stdin=setup.callbacks.stdin,
        guard=setup.host.guard,
    )


def begin_segment(
    setup: Setup, journal: RunJournal, number: int, agents_md: AgentsFile | None = None
) -> None:
    """Record how the sandbox was built, or that it was not. agents_md: that the model was told."""
    registry = setup.host.registry
    journal.record(
        SegmentStarted,
        number=number,
        pid=os.getpid(),
        tools=registry.tools if registry is not None else (),
        plan=setup.host.plan_summary(),
        settings=setup.recorded,
        agents_md=agents_md,
    )


def _logged(run: str, on_event: OnEvent | None) -> OnEvent:
    def tell(event: AnyEvent) -> None:
        log_event(run, event)
        if on_event is not None:
            on_event(event)

    return tell


def _refuse_other_bytes(settings: RecordedSettings, name: str | None) -> None:
    """The journal is UTF-8: it cannot name a file whose name is not, and holds no half of a
    character."""
    try:
        msgspec.json.encode((settings, name))
    except UnicodeEncodeError as error:
        text = str(error.object)
        try:
            shown = repr(os.fsencode(text))
        except UnicodeEncodeError:  # from a program: no file has such a name
            shown = ascii(text)
        raise ConfigError(
            f"{shown} is not UTF-8, and the journal is", hint="rename it, or name another"
        ) from None
