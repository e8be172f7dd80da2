"""`init` writes a project that is real: its suite fails for a reason, and git knows it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from identity import BIN, Person
from sandbox_agent.cli.templates import TEMPLATES, files
from sandbox_agent.config.task_file import load_task
from sandbox_agent.models.scripted import load_script

# `.ci/run` runs the demo as root too.
PERSONS = ["user"]

AGENT = str(BIN / "sandbox-agent")
CHANGED = {
    "fix-tests": {"wordcount/count.py"},
    "review-diff": {"review.md"},
    "custom-tool": set[str](),
    "ci-workflow": {"wordcount/count.py"},
}
"""What the agent of each template changes."""


def init(folder: Path, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandbox_agent", "init", *argv],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )


def suite_of(project: Path) -> subprocess.CompletedProcess[str]:
    """The project's tests, without any installed package."""
    return subprocess.run(
        [sys.executable, "-B", "-S", "-m", "unittest"],
        cwd=project,
        capture_output=True,
        text=True,
    )


def written(project: Path) -> dict[str, str]:
    return {
        str(path.relative_to(project)): path.read_text()
        for path in project.rglob("*")
        if path.is_file() and not {".git", "__pycache__"} & {*path.relative_to(project).parts}
    }


def test_the_project_is_complete_and_its_suite_fails(tmp_path: Path) -> None:
    done = init(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "demo/task.yaml\n"
    project = tmp_path / "demo"
    assert set(written(project)) == set(files("fix-tests", "python3"))
    tested = suite_of(project)
    assert tested.returncode == 1, tested.stderr
    assert "Ran 4 tests" in tested.stderr and "failures=1" in tested.stderr


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
    assert suite_of(project).returncode == 0


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
    for name, text in files("fix-tests", "'/opt/my ${env}/\"py\"/python'").items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    task = load_task(tmp_path / "task.yaml")
    command = "'/opt/my ${env}/\"py\"/python' -m unittest -q"
    assert task.verify == [command]
    first = load_script(task.model.steps).steps[0].turn.calls[1].arguments
    assert first == {"command": command}


@pytest.mark.parametrize("on_path", [True, False])
def test_the_tests_are_run_by_this_interpreter(tmp_path: Path, on_path: bool) -> None:
    """By the name `python3`, if that is this one: then the project can be moved."""
    (tmp_path / "bin").mkdir()
    target = sys.executable if on_path else "/bin/true"
    (tmp_path / "bin" / "python3").symlink_to(target)
    assert init(tmp_path, PATH=f"{tmp_path}/bin").returncode == 0
    name = "python3" if on_path else sys.executable
    assert load_task(tmp_path / "demo" / "task.yaml").verify == [f"{name} -m unittest -q"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_each_template_runs_at_once(person: Person, template: str) -> None:
    made = person.run([AGENT, "init", "my project", "--template", template])
    assert (made.returncode, made.stdout) == (0, "my project/task.yaml\n"), made.stderr
    next_line = made.stderr.splitlines()[-1]
    assert next_line == "next: sandbox-agent run 'my project/task.yaml'"
    before = written(person.work / "my project")
    words = shlex.split(next_line.removeprefix("next: sandbox-agent "))
    done = person.run([AGENT, *words, "--out", str(person.folder / "runs")])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    after = written(person.work / "my project")
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == CHANGED[template]


def test_a_tool_of_your_own_is_fifteen_lines() -> None:
    tool = files("custom-tool", "python3")["tools.py"]
    body = tool.partition('"""\n\n')[2]
    assert len([line for line in body.splitlines() if line.strip()]) < 15


def test_the_workflow_is_short_and_its_commands_work(person: Person) -> None:
    text = files("ci-workflow", "python3")[".github/workflows/agent.yml"]
    lines = [line for line in text.splitlines() if not line.strip().startswith("#")]
    assert len(lines) < 25
    steps = yaml.safe_load(text)["jobs"]["agent"]["steps"]
    ours = [one for one in steps if "sandbox-agent " in one.get("run", "")]
    assert [one.get("if") for one in ours] == [None, "always()"]
    assert ours[0]["run"].startswith("exec ")  # or no cancel would reach it
    assert person.run([AGENT, "init", "demo", "--template", "ci-workflow"]).returncode == 0
    for one in ours:
        done = person.run(["bash", "-e", "-c", one["run"]], cwd=person.work / "demo")
        assert done.returncode == 0, done.stderr
    assert steps[-1]["if"] == "always()"
    kept = person.work / "demo" / steps[-1]["with"]["path"]
    assert {path.name for path in kept.iterdir()} == {"run", "junit.xml", "run.html"}


@pytest.mark.parametrize("template", ["fix-tests", "ci-workflow"])
def test_what_verify_judges_by_is_protected(template: str) -> None:
    task = yaml.safe_load(files(template, "python3")["task.yaml"])
    assert all("unittest" in command for command in task["verify"])
    assert "tests/" in task["sandbox"]["protect"]


def test_a_mistyped_template_is_refused_with_a_guess(tmp_path: Path) -> None:
    done = init(tmp_path, "--template", "fixtests")
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert done.stderr == (
        "sandbox-agent init: --template: there is no 'fixtests'\n  hint: did you mean fix-tests?\n"
    )


def test_a_name_that_could_forge_a_message_is_shown_on_one_line(tmp_path: Path) -> None:
    name = "demo\n::add-mask::x\x1b[2J"
    done = init(tmp_path, name)
    assert done.returncode == 0, done.stderr
    assert "\n::add-mask::" not in done.stderr and "\x1b" not in done.stderr
    assert (tmp_path / name / "task.yaml").is_file()


def test_a_locale_without_utf_8_changes_nothing(tmp_path: Path) -> None:
    name = os.fsdecode("caf\u00e9".encode())
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = init(tmp_path, name, PATH=f"{BIN}:{os.environ['PATH']}", **plain)
    assert done.returncode == 0, done.stderr
    assert written(tmp_path / name) == files("fix-tests", "python3")
