"""AGENTS.md lies in a hostile workspace: what is read of it, and what is not."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from sandbox_agent.instructions.agents_file import MOST_BYTES, find


def test_the_text_and_a_record_of_it_are_found(tmp_path: Path) -> None:
    (tmp_path / "AGENTS.md").write_text("\ufeffUse tabs.\n")
    found = find(tmp_path, [], {})
    assert (found.text, found.problem) == ("Use tabs.", "")
    assert found.record is not None
    data = (tmp_path / "AGENTS.md").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    assert found.record.sha256 == digest
    assert (found.record.path, found.record.bytes, found.record.told) == ("AGENTS.md", 13, 13)
    assert found.changed == os.stat(tmp_path / "AGENTS.md").st_ctime


@pytest.mark.parametrize("content", [None, b"", b" \n\0"])
def test_nothing_is_told_of_no_file_and_of_an_empty_one(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "AGENTS.md").write_bytes(content)
    found = find(tmp_path, [], {})
    assert (found.text, found.record, found.problem) == ("", None, "")


def test_a_link_inside_the_workspace_is_followed(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "CLAUDE.md").write_text("Use tabs.")
    os.utime(tmp_path / "docs" / "CLAUDE.md")
    (tmp_path / "AGENTS.md").symlink_to("./docs/CLAUDE.md")
    found = find(tmp_path, [], {})
    assert found.text == "Use tabs."
    assert found.changed == os.lstat(tmp_path / "AGENTS.md").st_ctime, "it was made last"


def _fifo(path: Path) -> None:
    os.mkfifo(path / "AGENTS.md")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = os.getcwd()
        os.chdir(path)  # a socket's path is short
        try:
            one.bind("AGENTS.md")
        finally:
            os.chdir(here)


def _folder(path: Path) -> None:
    (path / "AGENTS.md").mkdir()


def _link_out(path: Path) -> None:
    (path.parent / "secret").write_text("s3cret")
    (path / "AGENTS.md").symlink_to(path.parent / "secret")


def _link_up(path: Path) -> None:
    (path.parent / "secret").write_text("s3cret")
    (path / "AGENTS.md").symlink_to("../secret")


def _link_through_a_link(path: Path) -> None:
    (path.parent / "secret").write_text("s3cret")
    (path / "out").symlink_to(path.parent)
    (path / "AGENTS.md").symlink_to("out/secret")


def _link_to_a_link(path: Path) -> None:
    (path.parent / "secret").write_text("s3cret")
    (path / "next").symlink_to(path.parent / "secret")
    (path / "AGENTS.md").symlink_to("next")


def _link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path / "pipe")
    (path / "AGENTS.md").symlink_to("pipe")


def _link_to_itself(path: Path) -> None:
    (path / "AGENTS.md").symlink_to("AGENTS.md")


@pytest.mark.parametrize(
    "make",
    [
        _fifo, _socket, _folder, _link_out, _link_up, _link_through_a_link, _link_to_a_link,
        _link_to_a_pipe, _link_to_itself,
    ],
)  # fmt: skip
def test_what_leads_out_or_is_no_file_is_not_read(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    workspace = tmp_path / "work"
    workspace.mkdir()
    make(workspace)
    found = find(workspace, [], {})
    assert (found.text, found.record) == ("", None)
    assert found.problem


@pytest.mark.parametrize("how", ["itself", "folder", "link", "hard link"])
def test_what_the_policy_hides_is_not_told(tmp_path: Path, how: str) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "notes").write_text("s3cret")
    path, hide = tmp_path / "AGENTS.md", [tmp_path / "private"]
    if how == "itself":
        path.write_text("s3cret")
        hide = [path]
    elif how == "hard link":
        path.hardlink_to(tmp_path / "private" / "notes")
        hide = [tmp_path / "private" / "notes"]
    else:
        path.symlink_to("private/notes")
        hide = [tmp_path / "private"] if how == "folder" else [tmp_path / "private" / "notes"]
    found = find(tmp_path, hide, {})
    assert found.text == "" and "the policy hides" in found.problem


def test_a_long_file_is_cut_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "AGENTS.md"
    path.write_text("é" * MOST_BYTES)
    found = find(tmp_path, [], {})
    assert found.text.startswith("éé") and found.text.endswith(
        f"[... {MOST_BYTES} bytes left out: read the file for the rest ...]"
    )
    assert found.record is not None and found.record.told == MOST_BYTES
    assert "the model is told the first" in found.problem
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    assert find(tmp_path, [], {}).record is None, "nothing but null bytes"


def test_secrets_and_other_bytes_are_not_passed_on(tmp_path: Path) -> None:
    (tmp_path / "AGENTS.md").write_bytes(b"key: correct-horse-battery \xff\0 end")
    found = find(tmp_path, [], {"MY_API_KEY": "correct-horse-battery"})
    assert found.text == "key: *** \ufffd end"
