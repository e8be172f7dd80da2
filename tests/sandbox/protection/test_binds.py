"""What is read-only by default, and what stays writable so that ordinary work goes through."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from sandbox_agent_sandbox.protection import binds
from sandbox_agent_sandbox.protection.binds import to_bind
from sandbox_agent_sandbox.protection.scan import look

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def run(top: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(top), *words], check=True, capture_output=True)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A repository with hooks, tracked and untracked files, and one in it."""
    top = tmp_path.resolve() / "w"
    for name in (".envrc", ".vscode/tasks.json", ".github/workflows/ci.yml", "sub/.envrc"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("x")
    for place in (top, top / "sub"):
        run(place, "init", "-q")
        (place / ".git/hooks").mkdir(exist_ok=True)
    run(top, "add", ".github", ".vscode")
    run(top / "sub", "add", ".envrc")
    return top


def bound(top: Path, *writes: Path, first: tuple[str, ...] = ()) -> list[str]:
    roots = [str(top), *map(str, writes)]
    found = to_bind(look(roots), roots, [str(top / name) for name in first])
    return sorted(os.path.relpath(path, top) for path in found)


def test_hooks_and_untracked_files_are_bound(top: Path) -> None:
    assert bound(top) == [".envrc", ".git/hooks", "sub/.git/hooks"]


def test_files_of_the_task_are_bound_also_where_git_tracks_them(top: Path) -> None:
    assert ".github/workflows/ci.yml" in bound(top, first=(".github/workflows/ci.yml",))


@pytest.mark.parametrize("write", [".git/hooks", ".git", ".git/hooks/pre-commit"])
def test_what_the_policy_makes_writable_stays_so(top: Path, write: str) -> None:
    assert bound(top, top / write) == [".envrc", "sub/.git/hooks"]


def test_a_folder_of_hooks_that_the_settings_name_is_bound(top: Path) -> None:
    (top / "tools/hooks").mkdir(parents=True)
    run(top, "config", "core.hooksPath", "tools/hooks")
    assert "tools/hooks" in bound(top)


def test_what_a_link_in_place_of_the_hooks_leads_to_is_bound(top: Path) -> None:
    (top / ".git/hooks").rename(top / "shared")
    (top / ".git/hooks").symlink_to("../shared")
    assert bound(top) == [".envrc", "shared", "sub/.git/hooks"]


def test_links_are_not_bound(top: Path) -> None:
    shutil.rmtree(top / ".git/hooks")
    (top / ".git/hooks").symlink_to("/etc")
    (top / ".envrc").unlink()
    (top / ".envrc").symlink_to("/etc/passwd")
    assert bound(top) == ["sub/.git/hooks"]


def test_a_name_that_is_not_utf8_does_not_end_the_run(top: Path) -> None:
    odd = os.fsdecode(os.fsencode(top) + b"/\xff")
    os.mkdir(odd)
    Path(odd, ".envrc").touch()
    assert bound(top) == [".envrc", ".git/hooks", "sub/.git/hooks"]


def test_there_is_a_most_of_repositories(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outermost ones come first."""
    monkeypatch.setattr(binds, "MOST_REPOSITORIES", 1)
    assert bound(top) == [".envrc", ".git/hooks"]


def test_what_build_tools_and_package_managers_remove_is_not_bound(top: Path) -> None:
    for name in ("node_modules/p", "build", ".venv/src/p"):
        (top / name).mkdir(parents=True)
        (top / name / ".envrc").touch()
        run(top / name, "init", "-q")
    assert bound(top) == [".envrc", ".git/hooks", "sub/.git/hooks"]


def test_the_files_that_links_lead_to_are_bound_and_folders_are_not(top: Path) -> None:
    for name in ("conf/envrc", "conf/editor/tasks.json", "scripts/check", "scripts/tracked"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("x")
    (top / ".envrc").unlink()
    (top / ".envrc").symlink_to("conf/envrc")
    (top / ".idea").symlink_to("conf/editor")
    for name in ("check", "tracked"):
        (top / ".git/hooks" / f"pre-{name}").symlink_to(f"../../scripts/{name}")
    run(top, "add", "scripts/tracked")
    assert bound(top) == [".git/hooks", "conf/envrc", "scripts/check", "sub/.git/hooks"]


def test_a_setting_with_a_nul_byte_ends_there(top: Path) -> None:
    with open(top / ".git/config", "ab") as file:
        file.write(b"[core]\n\thooksPath = a\0b\n")
    assert bound(top) == [".envrc", ".git/hooks", "sub/.git/hooks"]
