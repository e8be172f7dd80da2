"""Bad input, at the command line: exit 2, one message with place and hint, nothing started."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from collections.abc import Iterator

import identity
import pytest
from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")
GOOD = """\
version: 1
prompt: "Touch a file."
model: scripted:steps.yaml
workspace: {path: work}
tools: [shell]
verify: ["true"]
"""
STEPS = """\
- calls:
    - shell: {command: "touch started"}
- final: "Done."
"""


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


def run(me: Person, task: str, steps: str | None = STEPS, verb: str = "run") -> tuple[int, str]:
    """Exit code and standard error of a task; asserts what holds for every refusal."""
    me.write(me.folder / "task.yaml", task)
    if steps is not None:
        me.write(me.folder / "steps.yaml", steps)
    options = ["--out", str(me.folder / "runs")]
    done = me.run([AGENT, verb, "task.yaml", *options], cwd=me.folder)
    assert done.stdout == "" or done.returncode == 0
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def nothing_started(me: Person) -> bool:
    runs = me.folder / "runs"
    folders = list(runs.iterdir()) if runs.is_dir() else []
    for folder in folders:  # a run that was refused late is recorded, and dispatched no call
        lines = (folder / "journal.jsonl").read_text().splitlines()
        if any(json.loads(line)["event"] in ("dispatching", "started") for line in lines):
            return False
    return not (me.work / "started").exists()


def test_the_good_task_is_good(me: Person) -> None:
    """The control: what follows differs from this in one thing each."""
    assert run(me, GOOD)[0] == 0
    assert (me.work / "started").exists()


@pytest.mark.parametrize(
    ("old", "new", "line", "field"),
    [
        ("tools: [shell]", "tools: [shell", 6, ""),
        ("tools: [shell]", "toolz: [shell]", 5, "toolz"),
        ("version: 1", "version: 99", 1, "version"),
        ("tools: [shell]", "tools: [shell]\ninterrupt: {grace: 2 fortnights}", 6, "grace"),
        ("tools: [shell]", "tools: [shell]\nsandbox: {limits: {memory: big}}", 6, "memory"),
        ("tools: [shell]", "tools: [shell]\nsandbox: {network: {allow: [a.b:1]}}", 6, "network"),
        ("tools: [shell]", "tools: [shell]\nsandbox: {env: {secret: [KEY]}}", 6, "secret"),
        ("{path: work}", "{path: nowhere}", 4, "workspace"),
        ("{path: work}", "{path: work, mode: overlay}", 4, "mode"),
        ("scripted:steps.yaml", "scripted:none.yaml", 3, "model"),
        ('prompt: "Touch a file."', "prompt_file: none.md", 2, "prompt_file"),
        ("tools: [shell]", "tools: [nothing]", 5, "tools"),
        ("tools: [shell]", 'tools: ["no.such.module:tool"]', 5, "tools"),
    ],
    ids=[
        "malformed", "unknown-field", "version", "duration", "size", "network", "secret",
        "workspace", "mode", "steps-file", "prompt-file", "tool-name", "tool-import",
    ],
)  # fmt: skip
def test_a_bad_task_names_file_line_field_and_hint(
    me: Person, old: str, new: str, line: int, field: str
) -> None:
    code, err = run(me, GOOD.replace(old, new))
    assert code == 2, err
    assert f"task.yaml:{line}" in err
    assert field in err
    assert "hint:" in err
    assert nothing_started(me)


def test_a_step_that_names_an_unknown_tool_is_refused_with_its_line(me: Person) -> None:
    code, err = run(me, GOOD, STEPS.replace("shell:", "shel:"))
    assert code == 2, err
    assert "steps.yaml:2" in err
    assert "hint:" in err
    assert nothing_started(me)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--prompt", "a\udcffb"], "--prompt"),
        (["--var", "name=a\udcffb"], "--var name"),
        (["--set", "name=a\udcffb"], "--set name"),
        (["--set", r'verify=["\ud83d"]'], "--set verify"),
    ],
)
def test_text_that_is_no_text_is_refused_with_its_flag(
    me: Person, flags: list[str], named: str
) -> None:
    """Bytes on a command line that are not UTF-8, and half a character."""
    me.write(me.folder / "task.yaml", GOOD.replace("Touch", "${name} touch"))
    me.write(me.folder / "steps.yaml", STEPS)
    name = [] if "--var" in flags else ["--var", "name=x"]
    done = me.run([AGENT, "run", "task.yaml", *name, *flags], cwd=me.folder)
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert "hint:" in done.stderr
    assert nothing_started(me)


def test_a_missing_task_file_is_named(me: Person) -> None:
    done = me.run([AGENT, "run", "none.yaml"])
    assert done.returncode == 2
    assert "none.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_model_gets_an_error_for_arguments_that_violate_the_schema(me: Person) -> None:
    code, _ = run(me, GOOD, STEPS.replace('{command: "touch started"}', "{comand: 7}"))
    assert code == 0  # the model was told, went on, and `verify` decided
    assert not (me.work / "started").exists()
    (folder,) = (me.folder / "runs").iterdir()
    calls = json.loads((folder / "result.json").read_text())["calls"]
    (call,) = (call for call in calls if call["outcome"] != "ok")
    assert (call["tool"], call["outcome"], call["started"]) == ("shell", "error", "no")


def test_validate_says_the_same_and_starts_nothing(me: Person) -> None:
    code, err = run(me, GOOD.replace("tools: [shell]", "toolz: [shell]"), verb="validate")
    assert code == 2, err
    assert "task.yaml:5" in err
    assert nothing_started(me)


@pytest.fixture
def user() -> Iterator[Person]:
    yield from identity.someone("user")


def refused(done: subprocess.CompletedProcess[str], *words: str, code: int = 2) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "bug" not in done.stderr and "Traceback" not in done.stderr
    for word in (*words, "hint: "):
        assert word in done.stderr


def test_a_removed_current_folder_is_reported(me: Person) -> None:
    gone = me.folder / "gone"
    script = f'rmdir {gone}; "$@"'
    for argv, code in (
        (["run", "--prompt", "Go.", "--model", "scripted:x"], 2),
        (["exec", "--", "true"], 125),
    ):
        gone.mkdir(exist_ok=True)
        done = me.run(["sh", "-c", script, "sh", AGENT, *argv], cwd=gone)
        refused(done, "does not exist any more", code=code)


def test_without_a_home_the_output_folder_must_be_given(me: Person) -> None:
    """As `docker run --user 12345` may be."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    homeless = Person(next(uid for uid in range(54321, 60000) if not known(uid)), me.folder)
    me.folder.chmod(0o755)
    me.write(me.folder / "task.yaml", GOOD)
    me.write(me.folder / "steps.yaml", STEPS)
    for argv in (["run", str(me.folder / "task.yaml")], ["cancel", "last"]):
        refused(homeless.run(["env", "-u", "HOME", AGENT, *argv]), "there is no home folder")


def known(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def test_a_workspace_without_permission_is_reported(user: Person) -> None:
    inner = user.work / "inner"
    inner.mkdir()
    user.own(inner)
    user.work.chmod(0)
    try:
        for folder in (user.work, inner):
            argv = [AGENT, "exec", "--workspace", str(folder), "--", "true"]
            refused(user.run(argv, cwd=user.folder), "that you may enter", code=125)
    finally:
        user.work.chmod(0o700)


@pytest.mark.parametrize(
    "argv",
    [
        ["run", "task.yaml", "--workspace", os.fsdecode(b"b\xfcro")],
        ["run", "task.yaml", "--workspace", "x" * 300],
        ["run", "task.yaml", "--model", os.fsdecode(b"scripted:b\xfcro/steps.yaml")],
        ["run", "task.yaml", "--model", "scripted:" + "x" * 300],
        ["run", "task.yaml", "--model", "scripted:~nobody-of-this-name/x"],
        ["run", "task.yaml", "--model", "replay:~nobody-of-this-name/x"],
        ["resume", "~nobody-of-this-name/x"],
    ],
)
def test_a_name_that_leads_nowhere_or_cannot_be_written_down_is_no_bug(
    me: Person, argv: list[str]
) -> None:
    me.write(me.folder / "task.yaml", GOOD)
    me.write(me.folder / "steps.yaml", STEPS)
    other = me.folder / os.fsdecode(b"b\xfcro")
    other.mkdir()
    (other / "steps.yaml").write_text(STEPS)
    runs = me.folder / "runs"
    refused(me.run([AGENT, *argv, "--out", str(runs)], cwd=me.folder))
    assert nothing_started(me) and not runs.exists()


def test_a_task_file_may_be_named_in_any_bytes(me: Person) -> None:
    """Its name is that of the task, in the record."""
    name = os.fsdecode(b"t\xfc.yaml")
    me.write(me.folder / name, GOOD)
    me.write(me.folder / "steps.yaml", STEPS)
    done = me.run([AGENT, "run", name, "--out", str(me.folder / "runs")], cwd=me.folder)
    assert done.returncode == 0, done.stderr
