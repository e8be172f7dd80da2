"""What `rm` and `prune` remove: a run that is over, what sandbox-agent wrote, and nothing behind a
link."""

from __future__ import annotations

from pathlib import Path

import made_runs
import pytest
from sandbox_agent.cli.verbs.runs.removing import Removed, remove_run, size_of
from sandbox_agent.errors import ConfigError, StateError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = made_runs.write(tmp_path / made_runs.ID, made_runs.failed_run())
    (folder / "output").mkdir()
    (folder / "output" / "a.txt").write_text("12345")
    return folder


def test_the_files_and_their_lengths_are_told(run: Path) -> None:
    length = (run / "journal.jsonl").stat().st_size
    assert size_of(run) == remove_run(run) == Removed(2, length + 5)
    assert not run.exists()
    with pytest.raises(ConfigError, match="is not a run"):
        remove_run(run)


def test_a_run_that_is_going_stays(run: Path) -> None:
    with made_runs.held(run), pytest.raises(StateError, match="is going"):
        remove_run(run)
    assert (run / "output" / "a.txt").exists()


def test_a_link_to_a_run_is_none(run: Path) -> None:
    link = run.parent / "20261128T100000001-abcdef"
    link.symlink_to(run)
    with pytest.raises(ConfigError, match="is a link"):
        remove_run(link)
    assert run.exists() and link.is_symlink()


@pytest.mark.parametrize("place", ["notes.txt", "output/deep"])
def test_other_files_keep_the_whole_run(run: Path, place: str) -> None:
    (run / place).mkdir()
    with pytest.raises(ConfigError, match=f"did not write: {place}"):
        remove_run(run)
    assert (run / "output" / "a.txt").exists() and (run / "journal.jsonl").exists()
