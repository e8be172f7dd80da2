"""`validate` finds what can be known without starting anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TASK = "version: 1\nprompt: Do it.\nmodel: scripted:steps.yaml\n"
STEPS = "- calls: [{shell: {command: ls}}]\n- final: Done.\n"


def validate(folder: Path, *argv: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox_agent", "validate", *argv],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def write(folder: Path, more: str = "", steps: str = STEPS) -> None:
    (folder / "task.yaml").write_text(TASK + more)
    (folder / "steps.yaml").write_text(steps)


def test_a_good_task_is_valid_and_nothing_is_made(tmp_path: Path) -> None:
    write(tmp_path, "workspace: {path: '${where}'}\n")
    before = sorted(tmp_path.iterdir())
    assert validate(tmp_path, "--var", "where=.") == (0, "task.yaml: valid\n", "")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("more", "steps", "message"),
    [
        (
            "workspace: {path: nowhere}\n",
            STEPS,
            "task.yaml:4:13: workspace.path: there is no folder {folder}/nowhere\n"
            "  hint: make it, or name another",
        ),
        (
            "workspace: {path: steps.yaml}\n",
            STEPS,
            "task.yaml:4:13: workspace.path: {folder}/steps.yaml is not a folder\n"
            "  hint: name a folder",
        ),
        (
            "sandbox: {protect: [tests/]}\n",
            STEPS,
            "task.yaml:4:21: sandbox.protect[0]: {folder}/tests is not there\n"
            "  hint: make it, or remove it",
        ),
        (
            "",
            "- calls: [{shel: {command: ls}}]\n- final: Done.\n",
            "{folder}/steps.yaml:1: calls.shel: the tool shel is not among the task's\n"
            "  hint: did you mean shell?",
        ),
        (
            "tools: [files]\n",
            STEPS,
            "{folder}/steps.yaml:1: calls.shell: the tool shell is not among the task's\n"
            "  hint: known here: edit_file, find_files, list_files, read_file, search_files, "
            "write_file",
        ),
        (
            "",
            "final: Done.\n",
            "{folder}/steps.yaml:1:1: a scripted model must be a list of turns\n"
            "  hint: write each turn as `- say: ...` and/or `calls: [...]`, and the last as "
            "`- final: ...`",
        ),
    ],
)
def test_what_a_task_names_must_be_there(
    tmp_path: Path, more: str, steps: str, message: str
) -> None:
    write(tmp_path, more, steps)
    code, out, err = validate(tmp_path)
    assert (code, out) == (2, "")
    assert err == f"sandbox-agent: {message}\n".replace("{folder}", str(tmp_path))


def test_missing_steps_are_placed_where_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(TASK)
    assert validate(tmp_path) == (
        2,
        "",
        f"sandbox-agent: task.yaml:3:1: model: there is no file {tmp_path}/steps.yaml\n"
        "  hint: write the list of turns, or fix the path\n",
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            [],
            "command line: no TASK was given, and there is no task.yaml in this folder\n"
            '  hint: name a task file, or give a prompt: sandbox-agent run "Fix the tests."; '
            "`sandbox-agent init` writes a project to start from",
        ),
        (["no.yaml"], "no.yaml: there is no such file or folder\n  hint: check the path"),
        (
            ["--prompt", "x", "--model", "scripted:s", "--grace", "soon"],
            "--grace: interrupt.grace: 'soon' is not a duration\n  hint: write a number of "
            "seconds, or a number with ms, s, m, h or d, like 500ms, 90s or 1h30m",
        ),
        (["--var", "x"], "--var x is not name=value\n  hint: write --var name=value"),
    ],
)
def test_a_wrong_command_line_is_reported(tmp_path: Path, argv: list[str], message: str) -> None:
    if argv[:1] == ["--var"]:
        write(tmp_path)
    assert validate(tmp_path, *argv) == (2, "", f"sandbox-agent: {message}\n")
