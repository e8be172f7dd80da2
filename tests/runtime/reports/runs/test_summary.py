"""A run in a list: its status and its figures, whatever state its folder is in."""

from __future__ import annotations

import os
import time
from pathlib import Path

import made_runs
from made_runs import ID, Clock
from sandbox_agent.journal.events import VERSION, AnyEvent, UserText
from sandbox_agent.journal.file import JOURNAL_FILE, encode
from sandbox_agent.reports.report import read_report
from sandbox_agent.reports.runs.summary import Summary, listed, summary_of

CLOCK = Clock()


def of(folder: Path, *events: AnyEvent, tail: bytes = b"") -> Summary:
    return summary_of(made_runs.write(folder / ID, list(events), tail))


def test_a_run_that_has_ended_is_known_by_its_end(tmp_path: Path) -> None:
    found = of(tmp_path, *made_runs.failed_run())
    assert (found.run, found.name, found.status, found.exit_code) == (ID, "fix", "failed", 1)
    assert (found.model, found.reason) == ("scripted:steps.yaml", "verify failed: pytest -q")
    assert (found.segments, found.turns, found.tokens, found.cost_usd) == (1, 2, 300, 0.03)
    assert (found.begun, found.ended, found.seconds) == (made_runs.AT, made_runs.AT, 4.2)
    assert found.error is None


def test_without_an_end_the_lock_decides_between_running_and_lost(tmp_path: Path) -> None:
    found = of(tmp_path, *made_runs.failed_run()[:-1])
    assert (found.status, found.turns, found.tokens, found.cost_usd) == ("lost", 2, 300, 0.03)
    with made_runs.held(tmp_path / ID):
        assert summary_of(tmp_path / ID).status == "running"


def test_what_only_was_told_is_idle(tmp_path: Path) -> None:
    said = CLOCK(UserText, text="Go.")
    found = of(tmp_path, made_runs.opened(CLOCK), said)
    assert (found.status, found.turns) == ("idle", 0)
    with made_runs.held(tmp_path / ID):
        assert summary_of(tmp_path / ID).status == "running"


def test_segments_are_added_up_and_a_message_after_the_end_changes_nothing(tmp_path: Path) -> None:
    second = [
        made_runs.begun(CLOCK, 2),
        made_runs.turn(CLOCK, 3, 1.0, text="More.", usage=made_runs.usage(50, 0.5)),
        made_runs.ended(CLOCK, 2.0, number=2, requests=1, usage=made_runs.usage(50, 0.5)),
    ]
    first = made_runs.failed_run()
    found = of(tmp_path, *first, *second, CLOCK(UserText, text="And?"))
    assert (found.status, found.segments, found.turns) == ("done", 2, 3)
    assert (found.tokens, found.cost_usd, found.seconds) == (350, 0.53, 6.2)
    # Resumed, and killed in its second segment: the turn that it made counts.
    found = of(tmp_path, *first, *second[:-1])
    assert (found.status, found.segments, found.turns, found.tokens) == ("lost", 2, 3, 350)


def test_a_list_and_a_report_agree_at_every_moment_of_a_run(tmp_path: Path) -> None:
    clock = Clock(monotonic=9000.0)
    events = [
        *made_runs.failed_run(),
        clock(UserText, text="Again."),
        made_runs.begun(clock, 2),
        made_runs.turn(clock, 3, 1.0, text="Now.", usage=made_runs.usage(50, 0.5)),
        made_runs.ended(clock, 2.0, number=2, requests=1, usage=made_runs.usage(50, 0.5)),
    ]
    for count in range(1, len(events) + 1):
        found = of(tmp_path, *events[:count])
        report = read_report(tmp_path / ID)
        usage = report.usage()
        assert (found.status, found.name, found.model) == (report.status, "fix", report.model)
        assert (found.segments, found.turns) == (len(report.segments), len(report.turns))
        assert found.tokens == (None if usage is None else usage.total)
        assert found.cost_usd == (None if usage is None else usage.cost_usd)


def test_half_written_folders_are_listed_as_such(tmp_path: Path) -> None:
    assert of(tmp_path).status == "empty"
    assert of(tmp_path, tail=encode(made_runs.opened(CLOCK))[:-9]).status == "empty"
    (tmp_path / ID / JOURNAL_FILE).unlink()
    assert summary_of(tmp_path / ID).status == "empty"
    events = made_runs.failed_run()
    assert of(tmp_path, *events[:-1], tail=encode(events[-1])[:-1]).status == "failed"
    assert of(tmp_path, *events[:-1], tail=encode(events[-1])[:-9]).status == "lost"


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    newer = encode(made_runs.opened(CLOCK)).replace(
        f'"version":{VERSION}'.encode(), b'"version":99'
    )
    for tail, why in (
        (newer, "the journal has version 99"),
        (b'{"event":"some other program"}\n', "not a journal of sandbox-agent"),
        (encode(made_runs.opened(CLOCK)) + b"garbled\n", "this line is not an event"),
    ):
        found = of(tmp_path, tail=tail)
        assert (found.status, found.name) == ("unreadable", None)
        assert why in (found.error or "")
    (tmp_path / ID / JOURNAL_FILE).unlink()
    os.mkfifo(tmp_path / ID / JOURNAL_FILE)
    assert "no ordinary file" in (summary_of(tmp_path / ID).error or "")


def test_damage_in_the_middle_leaves_the_figures_open(tmp_path: Path) -> None:
    events = made_runs.failed_run()
    middle = b'{"event":"model_turn","usage":7}\n'
    raw = b"".join(map(encode, events[:3])) + middle + b"".join(map(encode, events[3:-1]))
    found = of(tmp_path, tail=raw)
    assert (found.status, found.turns, found.cost_usd) == ("lost", None, None)


def test_the_newest_comes_first_also_where_only_the_id_tells_the_time(tmp_path: Path) -> None:
    names = [f"2026112{day}T100000000-abcdef" for day in (1, 2, 3)]
    for day, name in zip((1, 2, 3), names, strict=True):
        clock = Clock(f"2026-11-2{day}T10:00:00.000Z")
        made_runs.write(tmp_path / name, made_runs.failed_run(clock) if day != 2 else [])
    found = listed([tmp_path / name for name in names])
    assert [run.run for run in found] == names[::-1]


def test_a_thousand_runs_are_listed_in_a_moment(tmp_path: Path) -> None:
    raw = b"".join(map(encode, made_runs.failed_run()))
    folders = [tmp_path / f"20261128T{number:09d}-abcdef" for number in range(1000)]
    for folder in folders:
        folder.mkdir()
        (folder / JOURNAL_FILE).write_bytes(raw)
    begin = time.process_time()
    assert {run.status for run in listed(folders)} == {"failed"}
    assert time.process_time() - begin < 2.0  # 0.15 s; a journal of any length costs the same
