"""Files that a tool made are opened without doing anything but reading them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sandbox_agent_sandbox.protection.files import folder_at, read_at, read_regular, read_start_at


def test_a_regular_file_is_read_and_anything_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with folder_at(str(tmp_path), str(tmp_path)) as folder:
        assert read_at(folder, "file", 7)[0] == b"content"
        assert read_start_at(folder, "file", 4) == b"cont"
        for name in ("link", "folder", "pipe", "none", "a\0b"):
            with pytest.raises((OSError, ValueError)):
                read_at(folder, name, 7)
            assert read_start_at(folder, name, 4) == b""
            assert read_regular(str(tmp_path / name), 7) is None
        with pytest.raises(ValueError, match="more than 6 bytes"):
            read_at(folder, "file", 6)


def test_a_folder_is_reached_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a")
    with folder_at(str(tmp_path), str(tmp_path / "a/b")):
        pass
    for path in (tmp_path / "link/b", tmp_path / "link", tmp_path.parent):
        with (
            pytest.raises(OSError, match=r"Not a directory|not below"),
            folder_at(str(tmp_path), str(path)),
        ):
            pass
