"""Before the start a user is told what may not be what they mean."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from sandbox_agent.config.notices import notices
from sandbox_agent_sandbox.policy.policy import Policy


def told(top: Path, **policy: object) -> list[str]:
    return list(notices(Policy(**policy), top, {}))


def test_a_policy_that_is_meant_is_not_spoken_of(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    assert told(tmp_path) == told(tmp_path, protect=["tests"]) == []


def test_that_defaults_are_off_is_said(tmp_path: Path) -> None:
    (notice,) = told(tmp_path, protect_defaults=False)
    assert "sandbox.protect_defaults is false" in notice and "hint: " in notice


def test_a_protected_file_with_another_name_is_said(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/judge").touch()
    assert told(tmp_path, protect=["tests"]) == []
    (tmp_path / "other").hardlink_to(tmp_path / "tests/judge")
    (notice,) = told(tmp_path, protect=["tests"])
    assert "tests/judge has other hard links" in notice


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_protect_over_tracked_files_is_said_once(tmp_path: Path) -> None:
    for name in ("tests/a", "tests/b", "judge", "free"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for words in (["init", "-q"], ["add", "tests", "judge"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    (notice,) = told(tmp_path, protect=["tests", "judge", "free"])
    assert "3 files that git tracks" in notice and "git checkout" in notice
    assert told(tmp_path, protect=["free"]) == []
