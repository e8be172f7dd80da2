"""What a tool leaves in a folder can be removed, whatever it is."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_agent_sandbox.inside.kernel.remove_tree import remove_tree

DEEP = ["d" * 200] * 30
"""Folders: their path is longer than any path may be (PATH_MAX)."""


@pytest.fixture
def above(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "left").mkdir()
    folder = os.open(tmp_path, os.O_RDONLY)
    yield folder
    os.close(folder)


def make_deep(folder: Path) -> None:
    here = os.open(folder, os.O_RDONLY)
    for name in DEEP:
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


@pytest.mark.as_user
def test_everything_goes_and_nothing_else(tmp_path: Path, above: int) -> None:
    left, kept = tmp_path / "left", tmp_path / "kept"
    (kept / "inner").mkdir(parents=True)
    make_deep(left)
    (left / "link").symlink_to(kept)
    (left / "to-itself").symlink_to("to-itself")
    os.mkfifo(left / "fifo")
    (left / "a\nb \x1b[31m \udcff").mkdir()
    for name in ("shut", "shut/below", "unwritable"):
        (left / name).mkdir()
        (left / name / "file").touch()
    os.link(left / "unwritable/file", left / "twice")
    with socket.socket(socket.AF_UNIX) as server:
        # Its path may be too long for an address. unix(7)
        server.bind(f"/proc/self/fd/{above}/left/socket")
    (left / "shut/below").chmod(0)
    (left / "unwritable").chmod(0o500)
    (left / "shut").chmod(0)
    left.chmod(0)
    remove_tree("left", above)
    assert sorted(os.listdir(tmp_path)) == ["kept"]
    assert (kept / "inner").is_dir()


def test_what_cannot_be_removed_does_not_keep_the_rest(tmp_path: Path, above: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    left = tmp_path / "left"
    for name in ("a", "b"):
        (left / name).mkdir()
        (left / name / "file").touch()
    subprocess.run(["chattr", "+i", left / "a/file"], check=True)
    try:
        with pytest.raises(PermissionError):
            remove_tree("left", above)
        assert [path.name for path in left.rglob("file")] == ["file"]
    finally:
        subprocess.run(["chattr", "-R", "-i", left], check=True)
    remove_tree("left", above)
    assert os.listdir(tmp_path) == []


def test_a_link_is_no_folder_to_remove(tmp_path: Path, above: int) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "left").rmdir()
    (tmp_path / "left").symlink_to("kept")
    with pytest.raises(OSError, match="left"):
        remove_tree("left", above)
    assert (tmp_path / "kept").is_dir()
