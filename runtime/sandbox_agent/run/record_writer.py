"""Writes the end of one run: `segment_ended` into the journal, and `result.json`."""

from __future__ import annotations

import os
import time

from sandbox_agent.journal.events import SegmentEnded, wall_clock
from sandbox_agent.journal.result_file import (
    Record,
    Times,
    Usage,
    calls_of,
    verified_of,
    write_record,
)
from sandbox_agent.journal.status import Status
from sandbox_agent.run.budget import BudgetTracker
from sandbox_agent.run.end import End, end_by_stop, with_survivors
from sandbox_agent.run.run_journal import RunJournal
from sandbox_agent.run.setup import Setup


class RecordWriter:
    """Of one run, which begins when this is made. segment: of the run.

    message: the agent's final words, None while it has not said that it is done. It may have said
    so in a segment that ended before `verify` could judge the work.
    """

    def __init__(
        self,
        setup: Setup,
        segment: int,
        journal: RunJournal,
        budget: BudgetTracker,
    ) -> None:
        self.segment = segment
        self._setup = setup
        self._journal = journal
        self._budget = budget
        self._state = journal.state
        self._calls_before = len(self._state.calls)
        self._begun = time.monotonic()
        self._times = Times(wall_clock())
        self._end: End | None = None
        self.message = self._state.final_words()

    def write_running(self) -> None:
        """Write `result.json` with the status `running`."""
        self._write(self._record(End(Status.RUNNING, "")))

    def conclude(self, end: End) -> tuple[Record, BaseException | None]:
        """Decide the run's end, unless that is done, and write it.

        end: the run's own end, which counts unless the run was stopped. Returns the record, and the
        error that ended the run, if one did. If a signal handler raises in here, call this again:
        what is written already is not written twice.
        """
        self._journal.end_open_calls()
        if self._end is None:
            self._end = self._decide(end)
        self._journal.record_stop()
        record = self._record(self._end)
        ended = self._state.segment_end
        if ended is None or ended.number != self.segment:
            self._record_end(self._end, record)
        self._write(record)
        error = self._journal.first_error
        if error is not None and record.status is not Status.ERROR:
            # The disk failed after the end was decided. At least the caller sees the error.
            record = self._record(End(Status.ERROR, f"the record cannot be written: {error}"))
        return record, self._end.error or error

    def _decide(self, end: End) -> End:
        decision = self._journal.decision
        reason = decision.end_naturally()
        # From here on nothing can stop the run any more, so its times are final.
        self._times = self._times.ending(time.monotonic() - self._begun)
        if reason is None:
            return end
        return end_by_stop(reason, decision.why, decision.exit_code, self._journal.first_error)

    def _record_end(self, end: End, record: Record) -> None:
        self._journal.record(
            SegmentEnded,
            number=self.segment,
            status=record.status.value,
            exit_code=end.code if record.exit_code is None else record.exit_code,
            reason=record.reason,
            requests=record.usage.requests,
            calls=record.usage.calls,
            seconds=record.times.seconds,
            survivors=record.survivors,
            usage=self._budget.used.usage,
        )

    def _record(self, end: End) -> Record:
        calls = list(self._state.calls.values())[self._calls_before :]
        survivors = tuple(
            survivor for call in calls if call.ended for survivor in call.ended.survivors
        )
        end, used, host = with_survivors(end, survivors), self._budget.used, self._setup.host
        return Record(
            run=self._setup.recorder.folder.name,
            task=self._setup.name,
            status=end.status,
            exit_code=None if end.status is Status.RUNNING else end.code,
            reason=end.reason,
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
        )

    def _write(self, record: Record) -> None:
        try:
            write_record(self._setup.recorder.folder, record, durable=self._setup.callbacks.durable)
        except OSError as error:
            self._journal.fail(error, f"the record cannot be written: {error}")
