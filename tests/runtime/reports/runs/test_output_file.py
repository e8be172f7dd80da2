"""Only an output of this very run is read, whatever its journal names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sandbox_agent.reports.runs.output_file import whole_output


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "output").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "journal.jsonl").write_text("journal")
    (folder / "output" / "a.txt").write_bytes(b"all \xff of it")
    return folder


def test_an_output_is_read_as_it_is(run: Path) -> None:
    assert whole_output(run, "output/a.txt") == b"all \xff of it"


@pytest.mark.parametrize(
    "name",
    [
        "output/nowhere.txt", "journal.jsonl", "../secret.txt", "output/../journal.jsonl",
        "output/../../secret.txt", "/etc/passwd", "output/", "output/.", "output", "",
        "output/link", "output/pipe", "output/folder", "output/a\0b", "x" * 5000,
        "output/" + "x" * 5000,
    ],
)  # fmt: skip
def test_nothing_else_is_read(run: Path, name: str) -> None:
    (run / "output" / "link").symlink_to(run.parent / "secret.txt")
    os.mkfifo(run / "output" / "pipe")
    (run / "output" / "folder").mkdir()
    with pytest.raises(OSError):
        whole_output(run, name)


def test_a_folder_of_outputs_that_is_a_link_is_not_followed(run: Path) -> None:
    (run / "output").rename(run.parent / "elsewhere")
    (run / "output").symlink_to(run.parent / "elsewhere")
    with pytest.raises(OSError):
        whole_output(run, "output/a.txt")
