"""`init` writes a project that is real: its suite fails for a reason, and git knows it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_agent.cli.verbs.demo_project import files
from sandbox_agent.config.task_file import load_task
from sandbox_agent.models.scripted import load_script


def init(folder: Path, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandbox_agent", "init", *argv],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )


def pytest_of(project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=project,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_the_project_is_complete_and_its_suite_fails(tmp_path: Path) -> None:
    done = init(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "demo/task.yaml\n"
    project = tmp_path / "demo"
    assert {
        str(path.relative_to(project))
        for path in project.rglob("*")
        if path.is_file() and ".git/" not in str(path)
    } == set(files(sys.executable))
    tested = pytest_of(project)
    assert (tested.returncode, "1 failed, 3 passed" in tested.stdout) == (1, True), tested.stdout


def test_the_scripted_edit_fixes_it(tmp_path: Path) -> None:
    assert init(tmp_path, "elsewhere/project").returncode == 0
    project = tmp_path / "elsewhere" / "project"
    model = load_script(load_task(project / "task.yaml").model.steps)
    (edit,) = (
        call.arguments
        for step in model.steps
        for call in step.turn.calls
        if call.name == "edit_file"
    )
    assert isinstance(edit, dict)
    path = project / edit["path"]
    text = path.read_text()
    assert text.count(edit["old"]) == 1
    path.write_text(text.replace(edit["old"], edit["new"]))
    assert pytest_of(project).returncode == 0


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not there")
def test_it_is_committed_without_the_users_configuration_or_hooks(tmp_path: Path) -> None:
    home = tmp_path / "home"
    hooks = home / "hooks"
    hooks.mkdir(parents=True)
    (hooks / "pre-commit").write_text(f"#!/bin/sh\ntouch {home}/hook-ran\nexit 1\n")
    (hooks / "pre-commit").chmod(0o755)
    (home / ".gitconfig").write_text(f"[core]\n\thooksPath = {hooks}\n[commit]\n\tgpgSign = true\n")
    done = init(tmp_path, HOME=str(home), GIT_DIR=str(tmp_path / "nowhere"))
    assert done.returncode == 0, done.stderr
    log = subprocess.run(
        ["git", "-c", f"safe.directory={tmp_path}/demo", "log", "--format=%an %s"],
        cwd=tmp_path / "demo",
        capture_output=True,
        text=True,
    )
    assert log.stdout == "sandbox-agent demo A project with a bug\n"
    assert not (home / "hook-ran").exists()


def test_without_git_it_says_so_and_goes_on(tmp_path: Path) -> None:
    done = init(tmp_path, PATH=str(tmp_path))
    assert done.returncode == 0
    assert "no git repository was made: git was not found" in done.stderr
    assert not (tmp_path / "demo" / ".git").exists()


def test_a_used_folder_is_left_alone(tmp_path: Path) -> None:
    used = tmp_path / "demo"
    used.mkdir()
    (used / "precious").write_text("mine")
    done = init(tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "sandbox-agent: demo: the folder is not empty\n  hint: name a new folder, or empty it\n"
    )
    assert [path.name for path in used.iterdir()] == ["precious"]


def test_a_file_in_place_of_the_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("mine")
    done = init(tmp_path)
    assert (done.returncode, (tmp_path / "demo").read_text()) == (2, "mine")
    assert done.stderr == "sandbox-agent: demo: is a file\n  hint: name a new folder\n"


def test_an_interpreter_with_odd_characters_is_quoted(tmp_path: Path) -> None:
    for name, text in files('/opt/my ${env}/"py"/python').items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    task = load_task(tmp_path / "task.yaml")
    command = "'/opt/my ${env}/\"py\"/python' -m pytest -q -p no:cacheprovider"
    assert task.verify == [command]
    first = load_script(task.model.steps).steps[0].turn.calls[1].arguments
    assert first == {"command": command}
