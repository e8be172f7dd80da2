"""Going on with a run in another process, or after its conversation was closed.

First all is looked at, with the journal locked, and whatever is wrong is refused with the journal
as it was. Only then is it written to.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from sandbox_agent.config.settings import Budgets, Interrupt, budgets_from
from sandbox_agent.errors import ConfigError, StateError
from sandbox_agent.journal import file as journal
from sandbox_agent.journal.events import Settings, UserText
from sandbox_agent.journal.recording import state_of_file
from sandbox_agent.journal.status import Status
from sandbox_agent.run.setup import Options, Setup, make_setup
from sandbox_agent.tools.registry import choice_of


class PastRun:
    """A run that is not going: its journal, read, and locked so that nobody else goes on with it.
    Use it in `with`: the lock is let go of at the end, unless a conversation has taken it over.

    path: of the run's folder, or of the journal in it. Raises StateError when the run is going,
    JournalError when the journal is damaged or of another version, ConfigError when there is none,
    OSError.
    """

    def __init__(self, path: Path | str) -> None:
        given = Path(path).absolute()
        self.journal = given / journal.FILE_NAME if given.is_dir() else given
        self.folder = self.journal.parent
        writer = self._open()
        self._writer: journal.JournalWriter | None = writer
        try:
            self.events = journal.parse_journal(writer.read(), str(self.journal))
            self.state = state_of_file(self.events, self.journal)
        except BaseException:
            self.close()
            raise
        self.settings: Settings | None = self.state.settings()
        self.segments = 0 if self.state.segment is None else self.state.segment.n

    def _open(self) -> journal.JournalWriter:
        try:
            if not stat.S_ISREG(os.stat(self.journal).st_mode):
                raise OSError(errno.EINVAL, "it is no ordinary file")
            return journal.JournalWriter(self.journal, create=False, patience=journal.DYING)
        except BlockingIOError:
            raise StateError(
                f"the run {self.folder.name} is going, or some program still has it open; wait for "
                f"it or `sandbox-agent cancel {self.folder.name}`, and close() the conversation"
            ) from None
        except OSError as error:
            raise ConfigError(
                f"{self.journal} cannot be opened: {error.strerror}",
                hint="name the folder of a run that you may write to",
            ) from None

    def take_writer(self) -> journal.JournalWriter:
        """The open journal, for somebody who closes it."""
        assert self._writer is not None
        writer, self._writer = self._writer, None
        return writer

    def close(self) -> None:
        """Let go of the journal, if it was not taken."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def setup_from_journal(past: PastRun, message: str | None, options: Options) -> Setup:
    """The setup of a conversation that goes on with `past`. When this returns, the journal says how
    the calls ended that were in flight, and holds `message`.

    Raises StateError, ConfigError, and OSError when the journal cannot be written.
    """
    _refuse_what_is_over(past, message)
    setup = _setup(past, options)
    recorder, writer = setup.recorder, past.take_writer()
    try:
        recorder.go_on(writer, past.events, past.state)
        if message is not None:
            recorder.add(UserText, text=message.encode("utf-8", "replace").decode())
    except BaseException:
        writer.close()
        raise
    return setup


def _refuse_what_is_over(past: PastRun, message: str | None) -> None:
    state, name = past.state, past.folder.name
    if message is not None:
        return
    if state.status() is Status.DONE and not state.unanswered():
        raise StateError(
            f"the run {name} is done; give it something more to do, with message= or --prompt"
        )
    if state.segment is None and not state.conversation:
        raise StateError(
            f"the journal of {name} ends before the agent was told anything; tell it, with "
            f"message= or --prompt"
        )


def _setup(past: PastRun, options: Options) -> Setup:
    known = past.settings or _lost(past, options)
    return make_setup(
        past.folder,
        model=options["model"] if "model" in options else _model(known),
        tools=options["tools"] if "tools" in options else [choice_of(c) for c in known.choices],
        workspace=options.get("workspace", known.workspace),
        sandbox=options.get("sandbox", known.policy),
        interrupt=options.get("interrupt", Interrupt(known.grace, known.term)),
        budgets=_budgets(known, options.get("budgets", {})),
        parallel=options.get("parallel", known.parallel),
        verify=options.get("verify", known.verify),
        name=past.state.opened.name if past.state.opened is not None else None,
        durable=options.get("durable", False),
        on_event=options.get("on_event"),
        on_output=options.get("on_output"),
        on_delta=options.get("on_delta"),
        separate_output=options.get("separate_output", False),
    )


def _lost(past: PastRun, options: Options) -> Settings:
    """Settings in place of those that a journal cut in its first line has lost. Nothing had begun.

    Walls and `verify` are not guessed: somebody may have wanted more than the default.
    """
    needed = ("model", "tools", "workspace", "sandbox", "verify")
    missing = [name for name in needed if name not in options]
    if missing:
        raise ConfigError(
            f"{past.journal} ends before it says what the run was made with",
            field=", ".join(missing),
            hint="nothing had begun; start it anew, or give what is missing",
        )
    interrupt, budgets = Interrupt(), Budgets()
    return Settings(
        model="",
        workspace="",
        choices=(),
        policy={},
        grace=interrupt.grace,
        term=interrupt.term,
        parallel=8,
        verify=(),
        **msgspec.structs.asdict(budgets),
    )


def _model(known: Settings) -> Any:
    # Imported here: it makes conversations, which is what we are part of.
    from sandbox_agent.models.by_name import model_from_journal

    return model_from_journal(known.model, known.model_options)


def _budgets(known: Settings, given: Budgets | Mapping[str, Any]) -> Budgets:
    if isinstance(given, Mapping):
        given = {**known.budgets, **given}
    return budgets_from(given)
