"""An option of the command line takes effect, or is refused with what, where and the hint."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import identity
import pytest
from identity import BIN, Person

PERSONS = ["user"]  # what it shows does not depend on who runs the command

AGENT = str(BIN / "sandbox-agent")
STEPS = "- calls: [{shell: {command: 'echo used'}}]\n- final: one\n- final: two\n"
TASK = "version: 1\nprompt: From the file.\nmodel: scripted:steps.yaml\nworkspace: {path: work}\n"


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


def prepared(person: Person, task: str | None = TASK, steps: str = STEPS) -> None:
    person.write(person.folder / "steps.yaml", steps)
    if task is not None:
        person.write(person.folder / "task.yaml", task)


def agent(person: Person, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
    verb, *rest = argv
    out = [] if verb == "validate" else ["--out", "runs"]
    out += ["--workspace", "work"] if verb == "exec" and "--workspace" not in rest else []
    command = [AGENT, verb, *out, *rest]
    if more:
        command = ["env", *(f"{name}={value}" for name, value in more.items()), *command]
    return person.run(command, cwd=person.folder)


def told(person: Person) -> str:
    """What the agent of the only run was told."""
    (journal,) = (person.folder / "runs").glob("2*/journal.jsonl")
    return journal.read_text()


def test_the_task_of_the_folder_is_used_beside_a_prompt(person: Person) -> None:
    prepared(person, TASK + "verify: ['echo from-the-file']\n")
    done = agent(person, "run", "--prompt", "From the flag.")
    assert done.returncode == 0, done.stderr
    assert "task.yaml of this folder is used, with --prompt in place of its prompt" in done.stderr
    assert "from-the-file" in done.stderr
    assert '"text":"From the flag."' in told(person)
    assert "From the file." not in told(person)


@pytest.mark.as_user
@pytest.mark.parametrize(
    "field",
    [
        "sandbox: {write: [home]}",
        "sandbox: {network: host}",
        "sandbox: {env: {pass: [TOKEN_OF_MINE]}}",
        "sandbox: {limits: {processes: 100000}}",
        "sandbox: {protect_defaults: false}",
        "output: {summary: ../elsewhere.md}",
        "workspace: {path: ..}",
    ],
)
def test_a_task_file_that_was_not_named_asks_for_no_more_than_none(
    person: Person, field: str
) -> None:
    """A tool of an earlier run may have put it there."""
    name = field.partition(":")[0]
    lines = [line for line in TASK.splitlines() if not line.startswith(f"{name}:")]
    prepared(person, "\n".join([*lines, field, ""]))
    done = agent(person, "validate", "--prompt", "From the flag.")
    assert done.returncode == 2, done.stderr
    assert f": {name}." in done.stderr and "you did not name task.yaml" in done.stderr
    assert "hint: look into it; if it is right, name it: sandbox-agent run task.yaml" in done.stderr
    more = ["--allow-home"] if name == "workspace" else []
    named = agent(person, "validate", "task.yaml", "--prompt", "From the flag.", *more)
    assert "you did not name" not in named.stderr
    prepared(person)
    flag = ["--set", "sandbox.network=host"]
    assert agent(person, "validate", "--prompt", "x", *flag).returncode == 0


def test_that_a_replay_does_not_use_the_task_of_the_folder_is_said(person: Person) -> None:
    prepared(person)
    assert agent(person, "run").returncode == 0
    done = agent(person, "run", "--model", "replay:last")
    assert done.returncode == 0, done.stderr
    assert "task.yaml of this folder is not used" in done.stderr
    refused = agent(person, "run", "--model", "replay:last", "--var", "a=1")
    assert refused.returncode == 2 and "--var a: the recorded run has no ${a}" in refused.stderr


def test_last_is_a_run_and_no_command_of_exec(person: Person) -> None:
    prepared(person)
    assert agent(person, "run").returncode == 0
    assert agent(person, "exec", "--", "true").returncode == 0
    done = agent(person, "resume", "last", "--prompt", "again")
    assert (done.returncode, done.stdout) == (0, "two\n"), done.stderr
    assert "is over" in agent(person, "cancel", "last").stderr


def test_last_is_the_run_that_was_made_last(me: Person) -> None:
    """As after a run with a clock that was fast: its id comes after those of later runs."""
    prepared(me)
    assert agent(me, "run").returncode == 0
    (first,) = (me.folder / "runs").iterdir()
    first.rename(first.with_name(f"2999{first.name[4:]}"))
    assert agent(me, "run").returncode == 0
    done = agent(me, "resume", "last", "--prompt", "again", "--json")
    assert done.returncode == 0, done.stderr
    assert f"run {min(os.listdir(me.folder / 'runs'))}, resumed" in done.stderr


def test_a_variable_to_pass_that_is_not_set_is_said_before_the_start(person: Person) -> None:
    policy = "env: {pass: [NOT_SET_HERE, SET_HERE]}\n"
    person.write(person.folder / "policy.yaml", policy)
    prepared(person, TASK + f"sandbox: {{{policy.strip()}}}\n")
    for argv in (
        ["exec", "--policy", "policy.yaml", "--", "sh", "-c", "echo $SET_HERE"],
        ["validate"],
        ["run"],
    ):
        # PYTHONWARNINGS is not ours to heed: it would hide what we say.
        done = agent(person, *argv, SET_HERE="here", PYTHONWARNINGS="ignore")
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("NOT_SET_HERE is not set here") == 1
        assert "SET_HERE is not set here" not in done.stderr.replace("NOT_SET_HERE", "")
        assert "\n  hint: " in done.stderr
        if argv[0] == "run":
            assert done.stderr.index("NOT_SET_HERE") < done.stderr.index("run 2")


def test_every_variable_that_the_sandbox_sets_can_be_set(person: Person) -> None:
    names = (
        "HOME", "TMPDIR", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "SANDBOX_AGENT",
        "VIRTUAL_ENV", "PYTHONPATH", "XDG_CACHE_HOME", "LC_ALL",
    )  # fmt: skip
    variables = ", ".join(f"{name}: /x/{name}" for name in names)
    person.write(
        person.folder / "policy.yaml", f"env: {{set: {{PATH: '/usr/bin:/bin', {variables}}}}}\n"
    )
    done = agent(person, "exec", "--policy", "policy.yaml", "--", "env")
    assert done.returncode == 0, done.stderr
    shown = done.stdout.splitlines()
    assert [f"{name}=/x/{name}" for name in names if f"{name}=/x/{name}" not in shown] == []
    assert "PATH=/usr/bin:/bin" in shown
    # A user of that name cannot be: the account keeps its own.
    done = agent(person, "exec", "--policy", "policy.yaml", "--", "id", "-un")
    assert done.stdout == "agent\n", done.stderr


def test_a_variable_that_is_passed_and_set_is_refused(person: Person) -> None:
    person.write(person.folder / "policy.yaml", "env: {pass: [A], set: {A: '1'}}\n")
    done = agent(person, "exec", "--policy", "policy.yaml", "--", "env")
    assert done.returncode == 125
    assert "A is in pass and in set" in done.stderr and "hint: remove it" in done.stderr


@pytest.mark.parametrize("tracked", [True, False], ids=["tracked", "untracked"])
def test_a_hidden_folder_that_git_tracks_is_said(person: Person, tracked: bool) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("needs git")
    secrets = person.work / "secrets"
    secrets.mkdir()
    person.write(secrets / "key", "k")
    person.write(person.work / "a", "a")
    add = "git add -A" if tracked else "git add a"
    person.run(["sh", "-c", f"git init -q && {add}"], cwd=person.work)
    person.write(person.folder / "policy.yaml", "hide: [work/secrets]\n")
    done = agent(person, "exec", "--policy", "policy.yaml", "--workspace", "work", "--", "true")
    assert done.returncode == 0, done.stderr
    assert (f"{secrets} holds a file that git tracks" in done.stderr) == tracked


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "--model", "scripted:a", "--model", "scripted:b"], "--model: is given twice"),
        (["run", "--prompt", "a", "--prompt", "b"], "--prompt: is given twice"),
        (["run", "-o", "a", "-o", "b"], "-o: is given twice"),
        (["run", "-o", "-"], "-o: standard output gets the message anyway"),
        (["run", "--var", "a=1", "--var", "a=2"], "--var a is given twice"),
        (["run", "--var", "a=1"], "--var a: task.yaml has no ${a}"),
        (["run", "--die-with-parent", "--no-die-with-parent"], "are both given"),
        (["run", "--workspace="], "--workspace: is empty"),
        (["run", "--model="], "--model: is empty"),
        (["run", "--set", "budgets.turns="], "has no value"),
        (["run", "--grace", "1s", "--set", "interrupt.grace=2s"], "is given by --set"),
        (["run", "--timeout", "0"], "--timeout"),
        (["run", ""], "TASK: is empty"),
        (["resume", ""], "RUN: is empty"),
        (["cancel", "last", "--wait", "1e400"], "'1e400' is not a duration"),
        (["exec", "--policy=", "--", "true"], "--policy: is empty"),
        (["exec", "--workspace=", "--", "true"], "--workspace: is empty"),
        (["exec", "--timeout", "1s", "--timeout", "2s", "--", "true"], "--timeout: is given twice"),
        (["exec", "--grace", "9" * 400, "--", "true"], "is not a duration"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_an_option_that_could_have_no_effect_is_refused(
    me: Person, argv: list[str], message: str
) -> None:
    prepared(me)
    done = agent(me, *argv)
    assert done.returncode == (125 if argv[0] == "exec" else 2), done.stderr
    assert message in done.stderr
    assert "hint: " in done.stderr and "Traceback" not in done.stderr
    assert not (me.folder / "runs").exists()


def test_a_model_of_the_command_line_needs_no_variable(me: Person) -> None:
    """`--set model=…` names it too, and a variable names it where nothing else does."""
    prepared(me, None)
    for argv, more in (
        (["--set", "model=scripted:steps.yaml"], {}),
        (["--set", "model={name: 'scripted:steps.yaml'}"], {}),
        ([], {"SANDBOX_AGENT_MODEL": "scripted:steps.yaml"}),
    ):
        done = agent(me, "run", "--prompt", "Go.", "--workspace", "work", *argv, **more)
        assert done.returncode == 0, done.stderr
    done = agent(me, "run", "--prompt", "Go.")
    assert done.returncode == 2 and "no model is named" in done.stderr
    prepared(me, TASK.replace("model: scripted:steps.yaml\n", ""))
    assert agent(me, "validate", SANDBOX_AGENT_MODEL="scripted:steps.yaml").returncode == 0
    done = agent(me, "validate", SANDBOX_AGENT_MODEL="scripted:nowhere.yaml")
    assert done.returncode == 2 and "SANDBOX_AGENT_MODEL: model: there is no file" in done.stderr
    assert "model: is required" in agent(me, "validate").stderr


def test_a_relative_state_folder_is_said_to_have_no_effect(me: Person) -> None:
    prepared(me)
    done = me.run(["env", "XDG_STATE_HOME=here", AGENT, "run"], cwd=me.folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("XDG_STATE_HOME is 'here', which is not absolute") == 1
    assert not (me.folder / "here").exists()
