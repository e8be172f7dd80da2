"""What tools are not to change is set back, whatever they made of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sandbox_agent_sandbox.protection import put_back
from sandbox_agent_sandbox.protection.put_back import PutBack


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    judge = tmp_path.resolve() / "work" / "above" / "judge"
    (judge / "more").mkdir(parents=True)
    (judge / "test").write_text("strict")
    (judge / "run").write_text("#!/bin/sh\n")
    (judge / "run").chmod(0o755)
    (judge / "more" / "test").write_text("kept")
    (judge / "link").symlink_to("test")
    return judge


def looks(folder: Path) -> dict[str, tuple[int, str]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        text = os.readlink(path) if path.is_symlink() else ""
        text = text or (path.read_text() if path.is_file() else "")
        found[str(path.relative_to(folder))] = (path.lstat().st_mode, text)
    return found


def shut(judge: Path) -> None:
    judge.chmod(0)


CHANGES: dict[str, Callable[[Path], object]] = {
    "written": lambda judge: (judge / "test").write_text("lax"),
    "of the same size": lambda judge: (judge / "test").write_text("STRICT"),
    "exchanged": lambda judge: (judge / "test").rename(judge / "run"),
    "removed": lambda judge: (judge / "test").unlink(),
    "added": lambda judge: (judge / "more" / "new").mkdir(),
    "a link": lambda judge: ((judge / "test").unlink(), (judge / "test").symlink_to("/etc/passwd")),
    "another link": lambda judge: ((judge / "link").unlink(), (judge / "link").symlink_to("run")),
    "a folder": lambda judge: ((judge / "test").unlink(), (judge / "test").mkdir()),
    "a file": lambda judge: (shutil.rmtree(judge / "more"), (judge / "more").write_text("")),
    "executable": lambda judge: (judge / "test").chmod(0o755),
    "shut": shut,
    "gone": lambda judge: shutil.rmtree(judge),
    "moved": lambda judge: judge.rename(judge.parent / "moved"),
    "moved above": lambda judge: judge.parent.rename(judge.parent.parent / "moved"),
    "a link above": lambda judge: (
        judge.parent.rename(judge.parent.parent / "moved"),
        judge.parent.symlink_to("moved"),
    ),
    "a file above": lambda judge: (
        judge.parent.rename(judge.parent.parent / "moved"),
        judge.parent.write_text("in its place"),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_set_back(judge: Path, name: str) -> None:
    before = looks(judge)
    kept = PutBack([str(judge)])
    assert list(kept.check()) == []
    CHANGES[name](judge)
    changed = list(kept.check())
    assert changed and all(is_back for _, is_back in changed)
    assert looks(judge) == before
    assert not judge.parent.is_symlink() and not judge.is_symlink()
    assert list(kept.check()) == []


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_folder_above_that_was_shut_is_opened_for_it(judge: Path, mode: int) -> None:
    """For root no folder is shut."""
    before, above = looks(judge), judge.parent
    (above / "file").write_text("new")
    kept = PutBack([str(judge), str(above / "file")])
    (judge / "test").unlink()
    (above / "file").write_text("lax")
    judge.rename(above / "moved")
    above.chmod(mode)
    try:
        assert all(is_back for _, is_back in kept.check())
        assert above.stat().st_mode & 0o777 == mode, "that is the tool's to change"
    finally:
        above.chmod(0o700)
    assert looks(judge) == before
    assert (above / "file").read_text() == "new"
    kept.close()


def test_what_was_only_touched_has_not_changed(judge: Path) -> None:
    kept = PutBack([str(judge)])
    (judge / "test").write_text("strict")
    os.utime(judge / "run")
    (judge / "more" / "new").mkdir()
    (judge / "more" / "new").rmdir()
    assert list(kept.check()) == []


def test_nothing_is_written_through_a_link(judge: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "test").write_text("of the user")
    kept = PutBack([str(judge)])
    shutil.rmtree(judge / "more")
    (judge / "more").symlink_to(outside)
    assert dict(kept.check())[str(judge / "more")]
    assert (outside / "test").read_text() == "of the user"
    assert (judge / "more" / "test").read_text() == "kept"


def test_what_is_too_large_is_noticed_and_not_set_back(
    judge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(put_back, "MOST_BYTES", 8)
    (judge / "test").write_text("longer than that")
    kept = PutBack([str(judge)])
    (judge / "test").write_text("lax")
    assert dict(kept.check()) == {str(judge / "test"): False}
    monkeypatch.setattr(put_back, "MOST_FILES", 2)
    assert PutBack([str(judge)]).unseen == [str(judge)]
