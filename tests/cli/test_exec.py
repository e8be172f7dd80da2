"""`exec` ends as its command does, and like docker and timeout for all that is not the command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import identity
import pytest
from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


def record(person: Person) -> dict[str, Any]:
    (folder,) = (person.folder / "runs").iterdir()
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 3"], 3),
        (["sh", "-c", "exit 255"], 255),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["no-such-command"], 127),
        (["/etc/passwd"], 126),
    ],
    ids=str,
)
def test_the_commands_end_is_the_exit_code(me: Person, command: list[str], code: int) -> None:
    runs = str(me.folder / "runs")
    done = me.run([AGENT, "exec", "--out", runs, "--", *command])
    assert done.returncode == code, done.stderr
    assert record(me)["status"] == ("done" if code == 0 else "failed")


def test_time_that_is_up_is_124(me: Person) -> None:
    runs = str(me.folder / "runs")
    options = ["--timeout", "200ms", "--grace", "100ms", "--out", runs]
    done = me.run([AGENT, "exec", *options, "--", "sleep", "60"])
    assert (done.returncode, done.stderr) == (
        124,
        "sandbox-agent: the time limit of the command was reached; limit: timeout 0.2 s\n",
    )
    assert record(me)["calls"][0]["outcome"] == "timeout"


def test_paths_in_a_policy_file_start_at_its_folder(me: Person) -> None:
    folder = me.folder / "policies"
    folder.mkdir()
    me.own(folder)
    me.own(me.write(folder / "data", "hello"))
    me.write(folder / "p.yaml", "read: [data]\nenv: {set: {WHO: you}}\nlimits: {timeout: 30s}\n")
    command = f"cat {folder}/data; echo $WHO; echo no > {folder}/data"
    done = me.run([AGENT, "exec", "--policy", str(folder / "p.yaml"), "--", "sh", "-c", command])
    assert done.stdout == "helloyou\n"
    assert done.returncode != 0
    assert (folder / "data").read_text() == "hello"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "command line: no command was given\n  hint: write exec -- COMMAND ARGUMENTS"),
        (
            ["--workspace", "/nowhere", "--", "true"],
            "--workspace: there is no folder /nowhere\n  hint: make it, or name another",
        ),
        (
            ["--policy", "/nowhere.yaml", "--", "true"],
            "/nowhere.yaml: there is no such file\n  hint: check the path",
        ),
        (
            ["--timeout", "soon", "--", "true"],
            "--timeout: 'soon' is not a duration\n  hint: write a number of seconds, or a number "
            "with ms, s, m, h or d, like 500ms, 90s or 1h30m",
        ),
    ],
)
def test_what_is_wrong_on_our_side_is_125(me: Person, argv: list[str], message: str) -> None:
    done = me.run([AGENT, "exec", *argv])
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == f"sandbox-agent: {message}\n"


@pytest.mark.parametrize("source", ["< data", "<<< $(cat data)", "< <(cat data)"])
def test_standard_input_is_passed_on_and_can_be_opened_anew(me: Person, source: str) -> None:
    """As root, too: its tools are another user."""
    text = "".join(f"line {number}\n" for number in range(3000))
    me.write(me.work / "data", text)
    for command in ("cat", "cat /dev/stdin"):
        done = me.run(["bash", "-c", f"{AGENT} exec -- {command} {source}"])
        assert (done.returncode, done.stdout, done.stderr) == (0, text, "")


@pytest.mark.parametrize("utf8", ["0", "1"])
def test_arguments_are_utf_8_whatever_the_locale_says(me: Person, utf8: str) -> None:
    env = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": utf8}
    argv = [
        AGENT,
        "exec",
        "--out",
        "runs",
        "--",
        "sh",
        "-c",
        'printf %s "$0" | od -An -tx1',
        "\u00e4",
    ]
    done = me.run(argv, env=env)
    assert (done.returncode, done.stdout.split()) == (0, ["c3", "a4"]), done.stderr
