"""The recorder: file, fold and listeners are told the same, also when the disk is in the way."""

from __future__ import annotations

import fcntl
import resource
import threading
import warnings
from pathlib import Path

import pytest
from sandbox_agent.journal.events import AnyEvent, JournalOpened, UserText
from sandbox_agent.journal.file import JOURNAL_FILE, read_journal
from sandbox_agent.journal.recorder import Recorder


def test_nothing_is_made_before_the_first_event(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "runs" / "r", None, None)
    recorder.close()
    assert list(tmp_path.iterdir()) == []


def test_file_memory_and_listener_agree(tmp_path: Path) -> None:
    heard: list[AnyEvent] = []
    recorder = Recorder(tmp_path / "r", "task", heard.append)
    recorder.add(UserText, text="one")
    recorder.add(UserText, text="two")
    recorder.close()
    assert recorder.events == tuple(heard) == read_journal(tmp_path / "r" / JOURNAL_FILE)
    first = heard[0]
    assert isinstance(first, JournalOpened)
    assert (first.run, first.name) == ("r", "task")


def test_an_event_that_could_not_be_written_is_written_before_the_next(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r", None, None)
    recorder.make_folder()
    blocked = tmp_path / "r" / JOURNAL_FILE
    blocked.mkdir()
    for text in ("one", "two"):
        with pytest.raises(IsADirectoryError):
            recorder.add(UserText, text=text)
    assert len(recorder.events) == 3
    blocked.rmdir()
    recorder.add(UserText, text="three")
    recorder.close()
    assert read_journal(blocked) == recorder.events


def test_a_run_that_cannot_write_its_first_event_leaves_no_folder(tmp_path: Path) -> None:
    """The folder of a run that nothing is known of would be `last`."""
    recorder = Recorder(tmp_path / "r", None, None)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(OSError):
            recorder.add(UserText, text="one")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    recorder.add(UserText, text="two")
    recorder.close()
    assert read_journal(tmp_path / "r" / JOURNAL_FILE) == recorder.events
    assert len(recorder.events) == 3


@pytest.mark.parametrize("action", ["default", "error"])
def test_a_listener_that_raises_causes_only_a_warning(tmp_path: Path, action: str) -> None:
    def listener(event: AnyEvent) -> None:
        raise RuntimeError("broken listener")

    recorder = Recorder(tmp_path / "r", None, listener)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)  # type: ignore[arg-type]
        recorder.add(UserText, text="one")
    recorder.close()
    assert len(read_journal(tmp_path / "r" / JOURNAL_FILE)) == 2
    assert bool(caught) is (action == "default")


def test_who_looks_whether_a_run_is_going_does_not_keep_it_from_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader holds the lock of the journal for an instant: flock(2) has no other way to look."""
    recorder = Recorder(tmp_path / "run", None, None)
    recorder.make_folder()
    with open(tmp_path / "run" / JOURNAL_FILE, "w") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        released = []

        def release(seconds: float) -> None:
            released.append(seconds)
            fcntl.flock(reader, fcntl.LOCK_UN)

        # The reader lets go while the run waits.
        monkeypatch.setattr("sandbox_agent.journal.file.time.sleep", release)
        recorder.add(UserText, text="Go.")
    recorder.close()
    assert len(released) == 1
    assert len(read_journal(tmp_path / "run" / JOURNAL_FILE)) == 2


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r", None, None)

    def write(name: int) -> None:
        for count in range(50):
            recorder.add(UserText, text=f"{name}-{count}" * 20)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close()
    assert read_journal(tmp_path / "r" / JOURNAL_FILE) == recorder.events
    assert len(recorder.events) == 401
