"""Which run is meant; what is no run, or several, is told."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from sandbox_agent.errors import ConfigError
from sandbox_agent.journal.events import COMMAND, RecordedSettings, UserText
from sandbox_agent.journal.file import JOURNAL_FILE
from sandbox_agent.journal.lookup import all_folders, find_run
from sandbox_agent.journal.recorder import Recorder
from sandbox_agent.resume import PastRun

IDS = ("20260101T000000000-aaaaaa", "20260101T000000000-bbbbbb", "20260102T000000000-cccccc")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name in IDS:
        (tmp_path / name).mkdir()
        (tmp_path / name / JOURNAL_FILE).touch()
    (tmp_path / "20269999-no-journal").mkdir()
    (tmp_path / "zzz-a-file").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("run", "found"),
    [
        *((IDS[0], IDS[0]), (IDS[1][:20], IDS[1]), ("20260102", IDS[2]), ("last", IDS[2])),
        *(("aaaaaa", IDS[0]), ("b", IDS[1]), ("-cccccc", IDS[2])),
    ],
)
def test_by_id_its_beginning_its_end_and_last(runs: Path, run: str, found: str) -> None:
    assert find_run(run, runs) == runs / found


def test_by_path(
    runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    folder = runs / IDS[0]
    assert find_run(str(folder), other) == folder
    assert find_run(str(folder / JOURNAL_FILE), other) == folder
    monkeypatch.chdir(runs)
    assert find_run(f"./{IDS[0]}", other) == folder
    assert find_run(IDS[0], other) == folder
    monkeypatch.chdir(folder)
    assert find_run(JOURNAL_FILE, other) == folder
    assert find_run("./", other) == folder


def test_the_default_folder_is_where_runs_go(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = runs / "state" / "sandbox-agent"
    home.mkdir(parents=True)
    (runs / IDS[0]).rename(home / IDS[0])
    monkeypatch.setenv("XDG_STATE_HOME", str(runs / "state"))
    assert find_run("last") == home / IDS[0]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("nothing", "there is no run nothing in"),
        ("", "no run was named"),
        ("20260101", f"may be any of {IDS[0]}, {IDS[1]}"),
        ("20269999-no-journal", "is not a run: there is no journal.jsonl"),
        ("zzz-a-file", "is not a run"),
        ("./nowhere", "is not a run"),
        ("./a\0b", "null (byte|character)"),
        ("x" * 5000, "is not a run|there is no run|too long"),
        ("/" + "x" * 5000, "too long"),
    ],
)
def test_a_path_that_is_not_a_run_is_refused(runs: Path, run: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        find_run(run, runs)
    assert raised.value.hint


def test_no_runs_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are no runs in"):
        find_run("last", tmp_path / "nowhere")


def test_of_many_candidates_the_newest_are_shown(runs: Path) -> None:
    for number in range(10):
        name = f"2027-{number}"
        (runs / name).mkdir()
        (runs / name / JOURNAL_FILE).touch()
    with pytest.raises(ConfigError, match="2027-5, 2027-6, 2027-7, 2027-8, 2027-9 and 5 more"):
        find_run("2027", runs)


def test_a_name_is_the_run_that_was_made_last_of_those_that_have_it(tmp_path: Path) -> None:
    one, other, named = (
        made(tmp_path, f"2026060{day}T120000000-{digits}", name=name)
        for day, digits, name in ((1, "aaaaaa", "fix"), (2, "bbbbbb", "fix"), (3, "cccfix", "x"))
    )
    assert find_run("fix", tmp_path) == other  # a name counts before the end of an id
    assert find_run("x", tmp_path, only=True) == named
    assert find_run("ccfix", tmp_path) == named
    with pytest.raises(ConfigError, match=f"fix may be any of {one.name}, {other.name}") as raised:
        find_run("fix", tmp_path, only=True)
    assert raised.value.hint == "give an id"
    for wrong, right in (("fixx", "fix"), (one.name.replace("aaaaaa", "aaaaba"), one.name)):
        with pytest.raises(ConfigError, match=f"there is no run {wrong}") as raised:
            find_run(wrong, tmp_path)
        assert raised.value.hint == f"did you mean {right}?"
    # A name that was given while the clock was ahead is not the last one.
    back = made(tmp_path, "20260501T120000000-dddddd", name="fix")
    assert find_run("fix", tmp_path) == back


def test_all_folders_of_runs_are_found_whoever_made_them(runs: Path) -> None:
    half = runs / "20260103T000000000-dddddd"
    half.mkdir()
    copy = runs / "copy"
    copy.mkdir()
    (copy / JOURNAL_FILE).touch()
    (runs / "20260104T000000000-eeeeee").touch()  # a file
    assert {folder.name for folder in all_folders(runs)} == {*IDS, half.name, "copy"}
    assert all_folders(runs / "nowhere") == []
    with pytest.raises(ConfigError):
        all_folders(runs / "zzz-a-file")


FAST, RIGHT, LATER = (
    "20260601T130000000-aaaaaa",
    "20260601T120000000-bbbbbb",
    "20260601T121500000-cccccc",
)
"""Made in this order, while the clock was an hour fast, and after it was set back."""


def made(base: Path, run: str, model: str = "scripted:x", name: str | None = None) -> Path:
    """A run of this id, as the recorder makes it."""
    task = name if model != COMMAND else COMMAND
    recorder = Recorder(base / run, task, None, RecordedSettings(model, {}, {}))
    recorder.add(UserText, text="Go.")
    recorder.close()
    return base / run


def test_the_last_run_is_the_one_that_was_made_last_also_after_the_clock_was_set_back(
    tmp_path: Path,
) -> None:
    fast = made(tmp_path, FAST)
    assert find_run("last", tmp_path) == fast
    right = made(tmp_path, RIGHT)
    assert find_run("last", tmp_path) == right
    later = made(tmp_path, LATER)
    assert find_run("last", tmp_path) == later
    # Neither the times of files nor a run that is gone decide.
    os.utime(fast)
    os.utime(fast / JOURNAL_FILE)
    assert find_run("last", tmp_path) == later
    shutil.rmtree(later)
    assert find_run("last", tmp_path) == right
    # And once the clock has passed it, ids are in order again.
    assert find_run("last", tmp_path) != made(tmp_path, "20260601T130000001-dddddd")
    assert find_run("last", tmp_path).name == "20260601T130000001-dddddd"


def test_a_run_that_is_resumed_was_not_made_again(tmp_path: Path) -> None:
    earlier, last = made(tmp_path, RIGHT), made(tmp_path, LATER)
    assert find_run("last", tmp_path) == last
    past, recorder = PastRun(earlier), Recorder(earlier, None, None)
    recorder.continue_journal(past._take_writer(), past.state, past.end)
    recorder.add(UserText, text="Go on.")
    recorder.close()
    assert find_run("last", tmp_path) == last


def test_a_second_step_back_is_remembered_when_the_newest_folder_is_removed(tmp_path: Path) -> None:
    first, second = made(tmp_path, FAST), made(tmp_path, "20260601T140000000-eeeeee")
    made(tmp_path, LATER)
    last = made(tmp_path, RIGHT)
    for removed in (None, second, first):
        if removed is not None:
            shutil.rmtree(removed)
        assert find_run("last", tmp_path) == last


def test_a_copy_under_another_name_is_not_the_last_run(tmp_path: Path) -> None:
    last = made(tmp_path, RIGHT)
    shutil.copytree(last, tmp_path / "zzz-copy")
    assert find_run("last", tmp_path) == last


def test_a_command_of_exec_is_last_only_where_there_is_no_run(tmp_path: Path) -> None:
    command = made(tmp_path, LATER, COMMAND)
    assert find_run("last", tmp_path) == command
    run = made(tmp_path, RIGHT)
    assert find_run("last", tmp_path) == run
    made(tmp_path, FAST, COMMAND)
    assert find_run("last", tmp_path) == run
    # A journal that cannot be read is told to whom asks for it.
    broken = tmp_path / "20260601T150000000-ffffff"
    broken.mkdir()
    (broken / JOURNAL_FILE).write_bytes(b"\0\xff\n")
    assert find_run("last", tmp_path) == broken
