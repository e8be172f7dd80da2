"""Resuming a run in another process, or after its conversation was closed.

The journal is locked, read and checked first. If anything is wrong, the run is refused and the
journal stays as it was.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sandbox_agent.errors import ConfigError, NotRecorded, StateError
from sandbox_agent.journal.events import RecordedSettings, UserText
from sandbox_agent.journal.file import JOURNAL_FILE, LOCK_PATIENCE, JournalWriter
from sandbox_agent.journal.folder import is_fault_of_host, refuse_foreign
from sandbox_agent.journal.result_file import complete_record
from sandbox_agent.journal.state import load_state
from sandbox_agent.journal.status import Status
from sandbox_agent.journal.stored import Source
from sandbox_agent.models import Model
from sandbox_agent.run.setup import Options, Setup, make_setup, refuse_empty


class PastRun:
    """A run that is not going, with its journal read and locked: no other process can resume it.

    Use it in `with`. The end of `with` releases the lock, unless a conversation took it over.

    path: the run's folder, or the journal in it. state: what the journal says; long events stay on
    the disk until they are asked for. end: where its last whole line ends. on_taken: called when a
    conversation has all that it needs and is about to write into the journal.

    Raises StateError if the run is going, JournalError if the journal is damaged or of another
    version, ConfigError if there is none, NotRecorded if the disk fails.
    """

    def __init__(self, path: Path | str) -> None:
        given = Path(path).absolute()
        self.journal = given / JOURNAL_FILE if given.is_dir() else given
        self.folder = self.journal.parent
        self.on_taken: Callable[[], object] = lambda: None
        writer = self._open()
        self._writer: JournalWriter | None = writer
        try:
            source = Source(writer.read_part, str(self.journal))
            self.state, self.end = load_state(source, writer.size)
        except OSError as error:
            self.close()
            raise NotRecorded(f"{self.journal} cannot be read: {error.strerror}") from None
        except BaseException:
            self.close()
            raise
        self.settings: RecordedSettings | None = self.state.settings()
        self.segments = 0 if self.state.segment is None else self.state.segment.number

    def _open(self) -> JournalWriter:
        try:
            if not stat.S_ISREG(os.stat(self.journal).st_mode):
                raise OSError(errno.EINVAL, "it is no ordinary file")
            refuse_foreign(self.journal)
            return JournalWriter(self.journal, create=False, patience=LOCK_PATIENCE)
        except BlockingIOError:
            raise StateError(
                f"the run {self.folder.name} is going, or a program still has it open; wait for "
                f"it, run `sandbox-agent cancel {self.folder.name}`, or close() the conversation"
            ) from None
        except OSError as error:
            if is_fault_of_host(error):
                raise NotRecorded(f"{self.journal} cannot be opened: {error.strerror}") from None
            raise ConfigError(
                f"{self.journal} cannot be opened: {error.strerror}",
                hint="name the folder of a run that you may write to",
            ) from None

    def _take_writer(self) -> JournalWriter:
        """The open journal. From now on the caller closes it."""
        assert self._writer is not None
        self.on_taken()
        writer, self._writer = self._writer, None
        return writer

    def mend_record(self) -> bool:
        """Write `result.json` anew if it does not say what the journal says about the end of the
        run. Returns whether that was done. Raises NotRecorded."""
        try:
            return complete_record(self.folder, self.state)
        except OSError as error:
            raise NotRecorded(
                f"the run {self.folder.name} is over, but its record cannot be written: "
                f"{error.strerror}"
            ) from None

    def close(self) -> None:
        """Close and unlock the journal, unless it was taken over."""
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


def setup_from_journal(
    past: PastRun, message: str | None, model: Model | str | None, options: Options
) -> Setup:
    """The setup of a conversation that resumes `past`.

    When this returns, the journal holds an end for each call that was in flight, and `message`.
    Raises StateError and ConfigError; ModelError for a provider's model that cannot answer here;
    OSError if the journal cannot be written.
    """
    if message is not None:
        refuse_empty(message)
    _refuse_what_is_over(past, message)
    setup = _setup(past, model, options)
    recorder, writer = setup.recorder, past._take_writer()
    try:
        recorder.continue_journal(writer, past.state, past.end)
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
        mended = " (its result.json did not say so, and does now)" if past.mend_record() else ""
        raise StateError(
            f"the run {name} is done{mended}; give the agent something more to do, with message= "
            f"or --prompt"
        )
    if state.segment is None and not state.conversation:
        raise StateError(
            f"the journal of {name} ends before the first message to the agent; give one, with "
            f"message= or --prompt"
        )


def _setup(past: PastRun, model: Model | str | None, options: Options) -> Setup:
    recorded = past.settings
    if recorded is None:
        given = {**options, **({} if model is None else {"model": model})}
        _refuse_missing(past, given)
    elif model is None:
        # Imported here: it names every kind of model.
        from sandbox_agent.models.by_name import model_from_journal

        model = model_from_journal(recorded.model, recorded.model_options)
    assert model is not None
    name = past.state.opened.name if past.state.opened is not None else None
    return make_setup(past.folder, model, name, options, recorded)


def _refuse_missing(past: PastRun, given: Mapping[str, Any]) -> None:
    """Refuse to guess the settings that a journal lost which was cut in its first line.

    The defaults of policy and `verify` may be less strict than what the user asked for.
    """
    needed = ("model", "tools", "workspace", "sandbox", "verify")
    missing = [name for name in needed if name not in given]
    if missing:
        raise ConfigError(
            f"{past.journal} ends before it says what the run was made with",
            field=", ".join(missing),
            hint="nothing had started; start a new run, or give what is missing",
        )
