"""Writes the end of one run: `segment_ended` into the journal, and `result.json`."""

from __future__ import annotations

import contextlib
import os
import time
from itertools import islice
from typing import Any

import msgspec
from sandbox_agent_sandbox.outcome import Survivor
from sandbox_agent_sandbox.protection.finding import Finding
from sandbox_agent_sandbox.utf8 import without_surrogates

from sandbox_agent.errors import NotRecorded
from sandbox_agent.journal.events import SegmentEnded, wall_clock
from sandbox_agent.journal.result_file import (
    Record,
    RecordFile,
    Times,
    Usage,
    calls_of,
    encoded,
    verified_of,
)
from sandbox_agent.journal.status import Status
from sandbox_agent.journal.usage import Used
from sandbox_agent.run.end import End, end_by_error, end_by_stop, with_survivors
from sandbox_agent.run.parts import Setup
from sandbox_agent.run.run_journal import RunJournal, not_written

_SPARE_ROOM = 32 * 1024
"""Bytes for what a record gets at its end: a reason, `verify` commands, survivors."""
_CALL_SIZE = 768
"""Bytes that a call takes in a record, at most: ladder, exit status and names included."""


class RecordWriter:
    """Of one run, which begins when this is made. segment: of the run.

    message: the agent's final words, None while it has not said that it is done. It may have said
    so in a segment that ended before `verify` could judge the work. survivors: processes that
    could not be stopped, beside those of the calls. findings: what was found after the run.
    """

    def __init__(
        self,
        setup: Setup,
        segment: int,
        journal: RunJournal,
        used: Used,
    ) -> None:
        self.segment = segment
        self._setup = setup
        self._journal = journal
        self._used = used
        self._state = journal.state
        self._calls_before = len(self._state.calls)
        self._begun = time.monotonic()
        self._times = Times(wall_clock())
        self._end: End | None = None
        self._file = RecordFile(
            setup.recorder.folder,
            durable=setup.callbacks.durable,
            keep=setup.recorder.keep_record,
        )
        self._size = self._room = 0
        self.message = self._state.final_words()
        self.survivors: tuple[Survivor, ...] = ()
        self.findings: tuple[Finding, ...] = ()

    def write_running(self) -> None:
        """Write `result.json` with the status `running`, and keep room for its end."""
        self._setup.recorder.free_records()
        record = self._record(End(Status.RUNNING, ""))
        try:
            self._file.stage(record)
            self._file.commit()
        except OSError as error:
            self._journal.fail(not_written("the record", error))
            return
        self._size = len(encoded(record)) + _SPARE_ROOM
        self.keep_room()

    def keep_room(self) -> None:
        """Keep room on the disk for the record, which grows with each call. Without it the run
        ends now, while its end can still be written."""
        message = len(self.message or "")
        calls = len(self._state.calls) - self._calls_before
        wanted = self._size + 2 * message + _CALL_SIZE * calls
        if wanted <= self._room:
            return
        try:
            self._file.keep_room(wanted + _SPARE_ROOM)
            self._room = wanted + _SPARE_ROOM
        except OSError as error:
            self._journal.fail(not_written("the record", error))

    def decide(self, end: End) -> End:
        """Decide the run's end, once: from here on nothing can stop the run any more. end: its own,
        which counts unless the run was stopped."""
        if self._end is None:
            self._end = self._decide(end)
        return self._end

    def conclude(self, end: End) -> tuple[Record, BaseException | None]:
        """Decide the run's end, unless that is done, and write it.

        end: the run's own end, which counts unless the run was stopped. Returns the record, and the
        error that ended the run, if one did. If a signal handler raises in here, call this again:
        what is written already is not written twice.

        The record is written first, under another name; then the end of the journal; then the
        record gets its name. So a disk that fails before the last step changes the end in all
        three: the exit code, the record and the journal. If it fails at the last step, the journal
        has the end, the old record is removed, and `resume` writes the record.
        """
        self._journal.end_open_calls()
        end = self.decide(end)
        self._journal.record_stop()
        ended = self._state.segment_end
        if ended is None or ended.number != self.segment:
            record = self._write_end(end)
        else:
            record = self._record(end)
        try:
            self._file.commit()
        except OSError as error:
            self._file.withdraw()
            lost = self._not_recorded("the record", error, self._end or end)
            record, self._end = self._record(lost), lost
        self._file.close()
        return record, (self._end or end).error or self._journal.first_error

    def _write_end(self, end: End) -> Record:
        record, what = self._record(end), "the record"
        try:
            self._file.stage(record)
            what = "the journal"
            self._journal.record_end(**self._end_of(record))
        except OSError as error:
            self._end = self._not_recorded(what, error, end)
            record = self._record(self._end)
            with contextlib.suppress(OSError):
                self._file.stage(record)
            self._journal.record(SegmentEnded, **self._end_of(record))
        return record

    def _not_recorded(self, what: str, error: OSError, end: End) -> End:
        """The end of a run whose end cannot be recorded: it is no success."""
        lost = not_written(what, error)
        self._journal.fail(lost)
        if isinstance(end.error, NotRecorded):
            return end  # It says so already.
        reason = f"{lost}; the run itself ended as {end.status.value}: {end.reason}"
        return msgspec.structs.replace(end_by_error(lost), reason=reason)

    def _decide(self, end: End) -> End:
        decision = self._journal.decision
        reason = decision.end_naturally()
        # From here on nothing can stop the run any more, so its times are final.
        self._times = self._times.ending(time.monotonic() - self._begun)
        if reason is None:
            return end
        return end_by_stop(reason, decision.why, decision.exit_code, self._journal.first_error)

    def _end_of(self, record: Record) -> dict[str, Any]:
        """The fields of `segment_ended`."""
        return {
            "number": self.segment,
            "status": record.status.value,
            "exit_code": record.exit_code,
            "reason": record.reason,
            "requests": record.usage.requests,
            "calls": record.usage.calls,
            "seconds": record.times.seconds,
            "survivors": record.survivors,
            "usage": self._used.usage,
            "findings": record.findings,
        }

    def _record(self, end: End) -> Record:
        calls = list(islice(self._state.calls.values(), self._calls_before, None))
        of_calls = [survivor for call in calls if call.brief for survivor in call.brief.survivors]
        survivors = tuple(dict.fromkeys([*of_calls, *self.survivors]))
        begun = self._state.segment
        end, used, host = with_survivors(end, survivors), self._used, self._setup.host
        return Record(
            run=self._setup.recorder.run,
            task=self._setup.name,
            status=end.status,
            exit_code=None if end.status is Status.RUNNING else end.code,
            reason=without_surrogates(end.reason),
            pid=os.getpid(),
            segment=self.segment,
            model=self._setup.model.name,
            workspace=str(self._setup.settings.workspace.path),
            times=self._times,
            usage=Usage(
                used.requests,
                sum(not call.verify for call in calls),
                used.tokens,
                used.cost_usd,
            ),
            message=self.message,
            verify=verified_of(self._state),
            survivors=survivors,
            calls=calls_of(self._state),
            plan=host.plan_summary(),
            agents_md=begun.agents_md if begun and begun.number == self.segment else None,
            findings=self.findings,
        )
