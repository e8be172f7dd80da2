"""What is kept of a file system, to be copied: the kernel mounts it for root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_agent_sandbox.inside.walls import image

NAME = "ext4-1048576"


@pytest.fixture
def base(tmp_path: Path) -> Iterator[int]:
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield folder
    os.close(folder)


def keep(base: int, name: str) -> None:
    made = image._nameless(base, 1 << 20)
    os.pwrite(made, b"superblock", 4096)
    image._keep_template(base, name, made)
    os.close(made)


def test_it_is_kept_and_nothing_else_is_left(base: int, tmp_path: Path) -> None:
    keep(base, NAME)
    assert os.listdir(tmp_path) == [NAME]
    pieces = image._read_template(base, NAME)
    assert pieces is not None and b"superblock" in pieces[0][1]


def test_what_somebody_else_could_have_made_is_not_used(base: int, tmp_path: Path) -> None:
    kept = tmp_path / NAME

    def second_name() -> None:
        os.link(kept, tmp_path / "second")

    def a_link() -> None:
        kept.rename(tmp_path / "elsewhere")
        kept.symlink_to("elsewhere")

    def a_pipe() -> None:
        kept.unlink()
        os.mkfifo(kept)

    def of_another() -> None:
        if os.geteuid() == 0:
            os.chown(kept, 4711, 4711)
        else:
            kept.chmod(0o660)

    for change in (second_name, lambda: kept.chmod(0o602), a_pipe, of_another):
        keep(base, NAME)
        assert image._read_template(base, NAME) is not None
        change()
        assert image._read_template(base, NAME) is None, change
    keep(base, NAME)  # it takes the place of what is of no use
    assert image._read_template(base, NAME) is not None
    a_link()
    with pytest.raises(OSError, match="symbolic links"):
        image._read_template(base, NAME)


def test_only_a_few_are_kept(base: int, tmp_path: Path) -> None:
    for number in range(image._MOST_TEMPLATES + 3):
        keep(base, f"ext4-{number}")
        os.utime(tmp_path / f"ext4-{number}", (number, number))
    left = sorted(int(name.removeprefix("ext4-")) for name in os.listdir(tmp_path))
    assert left == list(range(3, image._MOST_TEMPLATES + 3))
