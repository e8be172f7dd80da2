"""Which files git tracks is read without git."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from sandbox_agent_sandbox.protection.git_index import tracked_files

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder: Path, *argv: str) -> None:
    config = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *config, *argv], cwd=folder, check=True, capture_output=True)


@pytest.fixture(params=[2, 3, 4])
def top(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A repository with an index of each version. Version 3 is written where a flag needs it."""
    for name in ("a", "secrets/k", "secrets/deep/er/k2", "secrets2/x", "z" * 200):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "update-index", f"--index-version={request.param}")
    (tmp_path / "secrets" / "planned").write_text("p")
    (tmp_path / "secrets" / "untracked").write_text("u")
    git(tmp_path, "add", *(["-N"] if request.param == 3 else []), "secrets/planned")
    return tmp_path


def test_files_and_folders_are_found(top: Path) -> None:
    assert tracked_files(top / "secrets") == 3
    assert tracked_files(top / "secrets" / "deep") == 1
    assert tracked_files(top / "secrets" / "k") == 1
    assert tracked_files(top / "secrets2") == 1
    assert tracked_files(top / ("z" * 200)) == 1
    for other in ("secrets/untracked", "secret", "secrets/deep/er/k", "nowhere"):
        assert tracked_files(top / other) == 0
    shutil.rmtree(top / ".git")
    assert tracked_files(top / "secrets") == 0


def test_a_linked_worktree_has_an_index_of_its_own(top: Path) -> None:
    git(top, "commit", "-qm", "one")
    git(top, "worktree", "add", "-q", str(top / "linked"))
    assert (top / "linked" / ".git").is_file()
    assert tracked_files(top / "linked" / "secrets") >= 2


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"DIRC",
        b"DIRC\0\0\0\2\xff\xff\xff\xff",
        b"\0" * 500,
        b"DIRC\0\0\0\4\0\0\0\2" + b"x" * 99,
    ],
)
def test_a_damaged_index_says_nothing(tmp_path: Path, index: bytes) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "index").write_bytes(index)
    assert tracked_files(tmp_path / "secrets") == 0


def test_no_program_of_the_repository_is_started(top: Path) -> None:
    trap = top / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {top}/sprung\n")
    trap.chmod(0o755)
    git(top, "config", "core.fsmonitor", str(trap))
    assert tracked_files(top / "secrets") == 3
    assert not (top / "sprung").exists()
