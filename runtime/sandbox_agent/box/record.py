"""The record of a `Sandbox`: one segment of calls, without a model. Where no journal is wanted,
nothing is kept."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path

from sandbox_agent_sandbox.outcome import Survivor
from sandbox_agent_sandbox.protection.finding import Finding

from sandbox_agent.embedding.control import Control, listen
from sandbox_agent.errors import ConfigError, NotRecorded
from sandbox_agent.journal.events import SegmentStarted, ToolCall, TurnTaken
from sandbox_agent.journal.folder import default_output_dir, new_run_id, unwritable
from sandbox_agent.journal.status import Status
from sandbox_agent.journal.usage import Used
from sandbox_agent.run.end import End
from sandbox_agent.run.record_writer import RecordWriter
from sandbox_agent.run.run_journal import RunJournal
from sandbox_agent.run.setup import Setup
from sandbox_agent.run.stop_decision import StopDecision
from sandbox_agent.tools.arguments import recordable, recordable_name


class BoxRecord:
    """Writes what happens in a `Sandbox`. For any thread, but not for signal handlers.

    keeps: whether a journal is wanted. journal: of the segment.
    """

    def __init__(self, setup: Setup, decision: StopDecision, *, keeps: bool) -> None:
        self.keeps = keeps
        self.findings: tuple[Finding, ...] = ()
        self.journal = RunJournal(setup.recorder, decision)
        self._setup = setup
        self._lock = threading.Lock()
        self._turns = itertools.count(1)
        self._control: Control | None = None
        self._writer = RecordWriter(setup, 1, self.journal, Used()) if keeps else None

    def begin(self, interrupt: Callable[[], object]) -> None:
        """Make the folder and the first record. interrupt: what `sandbox-agent cancel` does.

        Raises ConfigError and NotRecorded if they cannot be made."""
        if self._writer is None:
            return
        folder = self._setup.recorder.folder
        try:
            self._setup.recorder.make_folder()
        except OSError as error:
            raise unwritable(f"the folder of the run cannot be made: {folder}", error) from None
        self._control = listen(folder, interrupt)
        self._writer.write_running()

    def opened(self) -> None:
        """Record how the sandbox was built, or that it was not."""
        registry = self._setup.host.registry
        self.journal.record(
            SegmentStarted,
            number=1,
            pid=os.getpid(),
            tools=registry.tools if registry is not None else (),
            plan=self._setup.host.plan_summary(),
            settings=self._setup.recorded,
        )

    def asked(self, call_id: str, tool: str, arguments: object) -> None:
        """Record that the program asked for a call: a turn of its own, as if of a model."""
        if self._writer is None:
            return
        call = ToolCall(call_id, recordable_name(tool), recordable(arguments))
        with self._lock:  # turns have to come in their order
            number = next(self._turns)
            self.journal.record(TurnTaken, turn=number, text="", final=False, calls=(call,))
            self._writer.keep_room()

    def found(self, findings: tuple[Finding, ...]) -> None:
        """Note what was found in the workspace after the last call. Not what a second look at its
        end finds, which is nothing."""
        self.findings = self.findings or findings
        if self._writer is not None:
            self._writer.findings = self.findings

    def conclude(self, end: End, survivors: tuple[Survivor, ...]) -> None:
        """Write the end. Idempotent; if a signal handler raises in here, call this again. Raises
        NotRecorded if that, or anything before, could not be written."""
        if self.journal.run_over.is_set():
            return
        error: BaseException | None = None
        try:
            if self._writer is None:
                self.journal.decision.end_naturally()
            else:
                self._writer.survivors = survivors
                _, error = self._writer.conclude(end)
        except Exception:
            self._leave()
            raise
        self._leave()
        if isinstance(error, NotRecorded):
            raise error

    def _leave(self) -> None:
        self.journal.run_over.set()
        if self._control is not None:
            self._control.close()
        self._setup.recorder.give_back_room()
        self._setup.recorder.close()


def left_by(error: BaseException) -> End:
    """The end of a sandbox whose block was left by an exception. Its text is the program's own, and
    may hold a secret."""
    why = f"the program left the sandbox by {type(error).__name__}"
    return End(Status.FAILED if isinstance(error, Exception) else Status.INTERRUPTED, why)


def wants(journal: object) -> bool:
    """Whether a program wants a journal. Raises ConfigError for what says neither."""
    if not isinstance(journal, bool | str | Path) or journal == "":
        raise ConfigError(
            f"must be True, False or a folder, not {journal!r}", field="journal", hint="write one"
        )
    return journal is not False


def run_dir_for(journal: bool | Path | str) -> Path:
    """The folder of the record. Where there is none, tools still must not see other records."""
    try:
        base = default_output_dir() if isinstance(journal, bool) else Path(journal).absolute()
    except ConfigError:
        if journal:
            raise
        base = Path("/")  # there is no home folder to keep runs in, so there are no runs
    return base / new_run_id()
