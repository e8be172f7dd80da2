"""Run folders: named by time, private, and out of the tools' sight."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from sandbox_agent.errors import ConfigError
from sandbox_agent.journal.folder import (
    default_output_dir,
    hidden_from_tools,
    make_run_folder,
    new_run_id,
    refuse_foreign,
    unwritable,
)


def test_ids_sort_by_time_and_are_all_different() -> None:
    ids = [new_run_id() for _ in range(200)]
    assert len(set(ids)) == 200
    times = [name.split("-")[0] for name in ids]
    assert times == sorted(times)


def test_a_folder_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "runs" / "r"
    make_run_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with pytest.raises(FileExistsError):
        make_run_folder(folder)


@pytest.mark.parametrize(("umask", "hint"), [(0o377, "umask 0377"), (0o77, "--out")])
def test_a_umask_that_shuts_new_folders_is_named(umask: int, hint: str) -> None:
    before = os.umask(umask)
    try:
        error = unwritable("it", OSError(errno.EACCES, "no"))
    finally:
        os.umask(before)
    assert hint in str(error)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("/s", "/s/sandbox-agent"), ("", "~/.local/state/sandbox-agent"), ("rel", "~/.local/state/s")],
)
def test_the_default_follows_xdg(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", value)
    assert str(default_output_dir()).startswith(str(Path(expected).expanduser()))


def test_all_runs_are_hidden_unless_the_workspace_lies_among_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/s")
    run, default = Path("/runs") / new_run_id(), Path("/s/sandbox-agent")
    assert hidden_from_tools(run, Path("/w")) == [Path("/runs"), default]
    assert hidden_from_tools(run, Path("/runs/w")) == [run, default]
    assert hidden_from_tools(default / new_run_id(), Path("/w")) == [default]
    assert hidden_from_tools(Path("/named"), Path("/w")) == [Path("/named"), default]


def test_runs_are_not_kept_in_the_workspace_itself() -> None:
    """A tool could put a folder there that `last` takes for a run."""
    with pytest.raises(ConfigError, match=r"output\.dir: /runs is the workspace"):
        hidden_from_tools(Path("/runs") / new_run_id(), Path("/runs"))
    hidden_from_tools(Path("/runs/runs") / new_run_id(), Path("/runs"))


def test_a_run_that_others_could_have_written_is_not_obeyed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    journal = folder / "journal.jsonl"
    journal.touch(mode=0o600)
    refuse_foreign(journal)
    for path in (folder, journal):
        before = path.stat().st_mode
        path.chmod(before | 0o002)
        with pytest.raises(
            ConfigError, match=f"(?s){path} can be written by other users .*chmod go-w"
        ):
            refuse_foreign(journal)
        path.chmod(before)
    if os.geteuid() == 0:
        os.chown(journal, 12345, 12345)
        with pytest.raises(ConfigError, match=f"{journal} belongs to user 12345, not to you"):
            refuse_foreign(journal)
