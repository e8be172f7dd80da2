"""A journal is read while it is written: until the segment ends, or nobody writes any more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import made_runs
import pytest
from made_runs import Clock
from sandbox_agent.errors import JournalError
from sandbox_agent.journal.events import AnyEvent, UserText
from sandbox_agent.journal.file import JOURNAL_FILE, JournalWriter, encode
from sandbox_agent.reports.runs.follow import End, Follower

CLOCK = Clock()
RUN = made_runs.failed_run()
SECOND = [made_runs.begun(CLOCK, 2), made_runs.ended(CLOCK, 1.0, number=2)]


def follow(folder: Path, *steps: Callable[[], object]) -> tuple[list[AnyEvent], End | None]:
    """Each time nothing more is there, the next step happens; after the last one nothing does."""
    follower = Follower(folder)
    left = list(steps)

    def wait() -> bool:
        if left:
            left.pop(0)()
        return True

    try:
        return list(follower.events(wait)), follower.end
    finally:
        follower.close()
        assert not left, "it ended too early"


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    writer = JournalWriter(tmp_path / JOURNAL_FILE)
    yield writer
    writer.close()


def test_events_come_as_they_are_written_until_the_end(
    tmp_path: Path, writer: JournalWriter
) -> None:
    steps = [lambda event=event: writer.append(event) for event in RUN]
    assert follow(tmp_path, *steps) == (RUN, End.SEGMENT)


def test_a_run_that_has_ended_is_read_and_not_waited_for(tmp_path: Path) -> None:
    made_runs.write(tmp_path, RUN)
    assert follow(tmp_path) == (RUN, End.SEGMENT)


def test_a_run_whose_agent_dies_is_lost(tmp_path: Path, writer: JournalWriter) -> None:
    for event in RUN[:-1]:
        writer.append(event)
    assert follow(tmp_path, lambda: None, writer.close, lambda: None) == (RUN[:-1], End.LOST)


def test_a_run_that_has_just_been_made_is_waited_for(tmp_path: Path) -> None:
    """Its journal is there a moment before its lock."""
    (tmp_path / JOURNAL_FILE).touch()
    writers: list[JournalWriter] = []

    def begin() -> None:
        writers.append(JournalWriter(tmp_path / JOURNAL_FILE))
        for event in RUN:
            writers[0].append(event)

    try:
        assert follow(tmp_path, begin) == (RUN, End.SEGMENT)
    finally:
        writers[0].close()
    (tmp_path / JOURNAL_FILE).write_bytes(b"")
    assert follow(tmp_path, lambda: None) == ([], End.IDLE)


def test_the_next_segment_of_a_program_that_holds_the_run_is_waited_for(
    tmp_path: Path, writer: JournalWriter
) -> None:
    for event in RUN:
        writer.append(event)
    steps = [lambda event=event: writer.append(event) for event in SECOND]
    assert follow(tmp_path, lambda: None, *steps) == ([*RUN, *SECOND], End.SEGMENT)


def test_a_line_that_is_half_written_is_waited_for(tmp_path: Path) -> None:
    line = encode(CLOCK(UserText, text="x" * 3_000_000))
    made_runs.write(tmp_path, RUN[:3], line[:-100])

    def add(data: bytes) -> None:
        with open(tmp_path / JOURNAL_FILE, "ab") as file:
            file.write(data)

    with made_runs.held(tmp_path):
        events, end = follow(
            tmp_path, lambda: add(line[-100:-1]), lambda: add(b"\n"), lambda: add(encode(RUN[-1]))
        )
    assert ([len(encode(event)) for event in events[3:]], end) == (
        [len(line), len(encode(RUN[-1]))], End.SEGMENT,
    )  # fmt: skip


def test_a_last_line_without_its_newline_counts_when_nobody_writes(tmp_path: Path) -> None:
    made_runs.write(tmp_path, RUN[:-1], encode(RUN[-1])[:-1])
    assert follow(tmp_path) == (RUN, End.SEGMENT)


def test_a_removed_run_and_a_reader_that_has_enough_end_it(
    tmp_path: Path, writer: JournalWriter
) -> None:
    for event in RUN[:4]:
        writer.append(event)
    follower = Follower(tmp_path)
    assert list(follower.events(lambda: False)) == RUN[:4]
    assert follower.end is End.STOPPED
    follower.close()
    assert follow(tmp_path, lambda: os.unlink(tmp_path / JOURNAL_FILE))[1] is End.REMOVED


def test_without_waiting_what_is_there_is_read(tmp_path: Path, writer: JournalWriter) -> None:
    for event in RUN[:-1]:
        writer.append(event)
    follower = Follower(tmp_path)
    assert list(follower.events()) == RUN[:-1]
    follower.close()


def test_damage_is_named_with_its_line(tmp_path: Path) -> None:
    for tail, message in ((b"garbled\n", ":4: this line is not"), (encode(RUN[0]), ":4: an event")):
        made_runs.write(tmp_path, RUN[:3], tail)
        with pytest.raises(JournalError, match=message):
            follow(tmp_path)
