"""What a call leaves in the workspace starts no program of the user's afterwards, or is named.

Each attempt is judged from outside, and stands beside ordinary work that goes through.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import struck
from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")
FINAL = {"final": "done"}

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def shell(*commands: str) -> dict[str, Any]:
    return {"calls": [{"shell": {"command": command}} for command in commands]}


def git(person: Person, *words: str, at: str = ".") -> str:
    names = ["-c", "user.name=you", "-c", "user.email=you@example.invalid"]
    done = person.run(["git", "-C", str(person.work / at), *names, *words])
    assert done.returncode == 0, done.stderr
    return done.stdout


def make(person: Person, name: str, text: str = "mine\n") -> Path:
    path = person.work / name
    for folder in reversed(path.parents):
        if person.work in folder.parents and not folder.exists():
            folder.mkdir()
            person.own(folder)
    return person.write(path, text)


def run_task(
    person: Person, *turns: dict[str, Any], **task: Any
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run a task. Returns how the command ended, and the record."""
    path = struck.write_task(person, [*turns, FINAL], **task)
    done = person.run([AGENT, "run", str(path), "--out", str(person.folder / "runs")])
    assert "Traceback" not in done.stderr, done.stderr
    (folder,) = (one for one in (person.folder / "runs").iterdir() if one.is_dir())
    return done, json.loads((folder / "result.json").read_text())


def found(record: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((one["kind"], one["path"]) for one in record["findings"])


@pytest.fixture
def repository(person: Person) -> Person:
    """A workspace as people have them: tracked files, untracked ones, a repository in it."""
    for name in (".github/workflows/ci.yml", "app.py", ".envrc", ".vscode/tasks.json", "sub/x"):
        make(person, name)
    for place in (".", "sub"):
        git(person, "init", "-q", at=place)
    git(person, "add", ".github", "app.py")
    git(person, "commit", "-qm", "one")
    return person


PLANT = (
    "echo evil > .git/hooks/pre-commit; echo evil > sub/.git/hooks/post-checkout",
    "echo evil >> .envrc; mv .envrc other; rm -f .envrc; ln -sf other .envrc; touch .vscode/new",
    "mv .git g; mv .git/hooks .git/h; rm -rf .git/hooks; mv sub s; mv .vscode v",
    "git config core.hooksPath /tmp/evil; git config --local alias.st '!evil'",
    "git -C sub config core.fsmonitor /tmp/evil; echo ../sub/.git > .git/commondir",
)
WORK = (
    "git config user.name you && git remote add o https://example.invalid/r",
    "echo more >> app.py; git add app.py && git -c user.email=a@b commit -qm two",
    "git checkout -qb other && git worktree list && git gc -q && git status",
)


def test_nothing_that_git_a_shell_or_an_editor_runs_is_planted(repository: Person) -> None:
    work = repository.work
    done, record = run_task(repository, shell("; ".join(PLANT)), shell("; ".join(WORK)))
    assert done.returncode == 0, done.stderr
    assert not (work / ".git/hooks/pre-commit").exists()
    assert not (work / "sub/.git/hooks/post-checkout").exists()
    assert (work / ".envrc").read_text() == "mine\n" and not (work / ".envrc").is_symlink()
    assert os.listdir(work / ".vscode") == ["tasks.json"]
    for place in (".", "sub"):
        assert "evil" not in git(repository, "config", "--list", "--show-origin", at=place)
    assert found(record) == [
        ("restored", ".git/commondir"),
        ("restored", ".git/config"),
        ("restored", ".git/config"),
        ("restored", "sub/.git/config"),
    ]
    assert "undone: what would have an effect outside the sandbox" in done.stderr
    # What is harmless went through.
    assert git(repository, "config", "remote.o.url").strip() == "https://example.invalid/r"
    assert git(repository, "log", "--format=%s", "-1").strip() == "two"
    assert git(repository, "branch", "--show-current").strip() == "other"


LEAVE = (
    "git init -q new; echo evil > new/.envrc; mkdir -p deep/.idea; echo e > deep/.idea/x",
    "echo evil >> .github/workflows/ci.yml",
    "mkdir -p node_modules/p; echo e > node_modules/p/.npmrc",
)


@pytest.mark.as_user
def test_what_cannot_be_kept_from_a_workspace_is_listed(repository: Person) -> None:
    done, record = run_task(repository, shell("; ".join(LEAVE)))
    expected = [
        ("changed", ".github/workflows/ci.yml"),
        ("new", "deep/.idea"),
        ("new", "new/.envrc"),
        ("new", "new/.git"),
    ]
    assert done.returncode == 0
    assert found(record) == expected
    assert "look at these before you work there" in done.stderr
    for kind, path in expected:
        assert f"{kind:<12} {path}: " in done.stderr
    runs = str(repository.folder / "runs")
    shown = repository.run([AGENT, "show", "last", "--out", runs])
    assert "look at these before you work there" in shown.stdout
    data = json.loads(repository.run([AGENT, "show", "last", "--json", "--out", runs]).stdout)
    assert data["findings"] == record["findings"]
    summary = repository.folder / "summary.md"
    repository.run([AGENT, "report", "last", "--out", runs, "--summary", str(summary)])
    assert "| new | `new/.git` |" in summary.read_text()


@pytest.mark.as_user
def test_the_model_is_told_what_was_undone(repository: Person) -> None:
    evil = {**shell("git config alias.st '!evil'"), "expect": ["undone in .git/config.*alias.st"]}
    assert run_task(repository, evil)[0].returncode == 0


@pytest.mark.as_user
def test_the_files_of_a_task_are_not_changed_by_it(person: Person) -> None:
    task = make(
        person, "task.yaml",
        "version: 1\nprompt_file: prompt.md\nmodel: scripted:steps.yaml\ntools: [shell]\n",
    )  # fmt: skip
    make(person, "prompt.md", "Hello.")
    plant = "for f in task.yaml steps.yaml prompt.md; do echo evil >> $f; rm $f; mv $f x; done"
    make(person, "steps.yaml", json.dumps([shell(f"{plant}; echo new > new.yaml"), FINAL]))
    before = {one.name: one.read_text() for one in person.work.iterdir()}
    done = person.run([AGENT, "run", str(task), "--out", str(person.folder / "runs")])
    assert done.returncode == 0, done.stderr
    assert {one.name: one.read_text() for one in person.work.iterdir()} == {
        **before, "new.yaml": "new\n",
    }  # fmt: skip


@pytest.mark.as_user
def test_protect_defaults_can_be_turned_off_and_that_is_said(repository: Person) -> None:
    plant = "echo evil > .git/hooks/pre-commit; git config alias.st '!evil'; echo e >> .envrc"
    done, record = run_task(repository, shell(plant), sandbox={"protect_defaults": False})
    assert "sandbox.protect_defaults is false" in done.stderr
    assert found(record) == [
        ("changed", ".envrc"),
        ("changed", ".git/config"),
        ("new", ".git/hooks/pre-commit"),
    ]
    assert "evil" in git(repository, "config", "alias.st")


@pytest.mark.as_user
def test_a_path_in_write_stays_writable(repository: Person) -> None:
    hooks = str(repository.work / ".git/hooks")
    done, record = run_task(
        repository, shell("echo mine > .git/hooks/pre-commit"), sandbox={"write": [hooks]}
    )
    assert done.returncode == 0, done.stderr
    assert (repository.work / ".git/hooks/pre-commit").read_text() == "mine\n"
    assert found(record) == [("new", ".git/hooks/pre-commit")]


@pytest.mark.as_user
def test_exec_says_it_too(repository: Person) -> None:
    done = repository.run([AGENT, "exec", "--", "git", "init", "-q", "new"])
    assert done.returncode == 0
    assert "new          new/.git: a repository" in done.stderr
    quiet = repository.run([AGENT, "exec", "--", "git", "status", "--short"])
    assert quiet.stderr == ""


def test_the_policy_of_a_command_is_not_changed_by_it(person: Person) -> None:
    """The next command, started with the same words, would have a wider one."""
    make(person, "policy.yaml", "network: none\n")
    make(person, "other.yaml")
    script = "echo 'network: host' > policy.yaml; mv policy.yaml p; echo free > other.yaml"
    words = ["exec", "--policy", "policy.yaml", "--", "sh", "-c", script]
    done = person.run([AGENT, *words])
    assert (person.work / "policy.yaml").read_text() == "network: none\n", done.stderr
    assert (person.work / "other.yaml").read_text() == "free\n"


def test_a_task_behind_a_link_that_tools_can_replace_is_refused(person: Person) -> None:
    make(person, "real.yaml", "version: 1\nprompt: x\nmodel: scripted:s.yaml\n")
    make(person, "s.yaml", json.dumps([FINAL]))
    (person.work / "task.yaml").symlink_to("real.yaml")
    done = person.run([AGENT, "run", "task.yaml", "--out", str(person.folder / "runs")])
    assert done.returncode == 2
    assert f"leads through the link {person.work}/task.yaml" in done.stderr
    assert f"name {person.work}/real.yaml itself" in done.stderr
