"""How a run stands follows from the ends of its journal, however long that is."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from sandbox_agent.errors import JournalError
from sandbox_agent.journal.events import (
    VERSION,
    AnyEvent,
    Ended,
    JournalOpened,
    RecordedSettings,
    SegmentEnded,
    SegmentStarted,
    Started,
    TurnTaken,
    UserText,
)
from sandbox_agent.journal.file import JOURNAL_FILE, encode
from sandbox_agent.journal.result_file import Record, Times, write_record
from sandbox_agent.journal.standing import standing_of
from sandbox_agent.journal.status import Status
from sandbox_agent_sandbox.outcome import Outcome, StartedState

NOW = {"at": "2026-01-01T00:00:00.000Z", "monotonic": 1.5}
OPENED = JournalOpened(version=VERSION, run="r", **NOW)
SETTINGS = RecordedSettings("scripted", {}, {})
BEGUN = SegmentStarted(number=1, pid=7, settings=SETTINGS, tools=(), plan=None, **NOW)
END = SegmentEnded(
    number=1, status="done", exit_code=0, reason="", requests=1, calls=0, seconds=1.0, **NOW
)
SAID = UserText(text="more", **NOW)
TURN = TurnTaken(turn=1, text="so", final=False, **NOW)
LATE = Ended(call="c", outcome=Outcome.SKIPPED, started=StartedState.NO, **NOW)
RECORD = Record(
    run="r",
    task=None,
    status=Status.RUNNING,
    exit_code=None,
    reason="",
    pid=9,
    segment=1,
    model="scripted",
    workspace="/w",
    times=Times("2026-01-01T00:00:00.000Z"),
)


def journal(folder: Path, *events: AnyEvent, tail: bytes = b"") -> None:
    (folder / JOURNAL_FILE).write_bytes(b"".join(map(encode, events)) + tail)


@pytest.mark.parametrize(
    ("events", "is_over"),
    [
        ((OPENED,), False),
        ((OPENED, SAID, BEGUN), False),
        ((OPENED, SAID, BEGUN, TURN), False),
        ((OPENED, SAID, BEGUN, TURN, END), True),
        ((OPENED, SAID, BEGUN, TURN, END, SAID, LATE, SAID), True),
        ((OPENED, SAID, BEGUN, TURN, END, SAID, msgspec.structs.replace(BEGUN, number=2)), False),
        ((OPENED, SAID, BEGUN, TURN, END, SAID, Started(call="c", **NOW)), False),
    ],
)
@pytest.mark.parametrize("tail", [b"", b'{"event":"user_mess', b"\0" * 100_000])
def test_a_segment_is_over_when_nothing_of_a_later_one_follows(
    tmp_path: Path, events: tuple[AnyEvent, ...], is_over: bool, tail: bytes
) -> None:
    journal(tmp_path, *events, tail=tail)
    standing = standing_of(tmp_path)
    assert (standing.end is not None, standing.is_empty) == (is_over, False)


def test_a_last_line_that_lacks_only_its_newline_counts(tmp_path: Path) -> None:
    journal(tmp_path, OPENED, BEGUN, tail=encode(END)[:-1])
    assert standing_of(tmp_path).end == END


def test_an_empty_journal_says_so(tmp_path: Path) -> None:
    for data in (b"", encode(OPENED)[:-3], b"\0" * 5000):
        (tmp_path / JOURNAL_FILE).write_bytes(data)
        assert standing_of(tmp_path).is_empty


def test_a_segment_that_only_the_record_knows_has_begun(tmp_path: Path) -> None:
    journal(tmp_path, OPENED, BEGUN, TURN, END)
    write_record(tmp_path, RECORD)
    assert standing_of(tmp_path).begun is None
    write_record(tmp_path, msgspec.structs.replace(RECORD, segment=2))
    begun = standing_of(tmp_path).begun
    assert begun is not None
    assert begun.pid == 9


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    journal(tmp_path, OPENED, BEGUN, SAID, SAID, tail=b"garbled\n")
    with pytest.raises(JournalError, match=r"journal\.jsonl:5: this line is not an event"):
        standing_of(tmp_path)
    journal(tmp_path, tail=b"garbled\n")
    with pytest.raises(JournalError, match=r"journal\.jsonl:1: this is not a journal"):
        standing_of(tmp_path)


def test_lines_of_any_length_are_read(tmp_path: Path) -> None:
    long = UserText(text="x" * 300_000, **NOW)
    journal(tmp_path, OPENED, long, BEGUN, END, long, long)
    assert standing_of(tmp_path).end == END
