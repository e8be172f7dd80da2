"""A host that has run out of something says of what, once; and no result blames anyone else."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import struck
from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")
PIDS = Path("/sys/fs/cgroup/pids")

NEVER = ("Traceback", "bug", "5.12", "CAP_SYS_ADMIN", "killed from outside", "out of memory")
"""What no message of a shortage may hold: our own fault, or the cause of something else."""

Start = Callable[[list[str]], list[str]]
"""Makes a command line that runs under a limit."""


@contextmanager
def tasks_left(person: Person, count: int) -> Iterator[Start]:
    """The command, and all that it starts, can be so many processes and threads at once.

    RLIMIT_NPROC counts the processes of a user, who has none yet; root needs a cgroup.
    """
    if person.uid != 0:
        yield lambda argv: ["bash", "-c", f'ulimit -u {count}; exec "$0" "$@"', *argv]
        return
    if not os.access(PIDS, os.W_OK):
        pytest.skip("needs a writable cgroup-v1 pids controller")
    group = PIDS / f"sandbox-agent-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "pids.max").write_text(str(count))
        enter = f'echo $$ > {group}/cgroup.procs; exec "$0" "$@"'
        yield lambda argv: ["sh", "-c", enter, *argv]
    finally:
        # What a command started has ended, or is about to: it dies with the command.
        struck.observer.eventually(lambda: not (group / "cgroup.procs").read_text(), 20)
        group.rmdir()


def without_warning(text: str) -> str:
    """A command that has room for all else may have none for what hears `sandbox-agent cancel`."""
    warned = r"warning: `sandbox-agent cancel` cannot reach this run: [^;\n]*; hint: .*\n"
    return re.sub(rf"\A{warned}", "", text)


def one_message(text: str, *words: str) -> None:
    text = without_warning(text)
    assert text.startswith("sandbox-agent: ")
    assert text.count("sandbox-agent:") == 1, text
    assert text.count("hint:") == 1, text
    assert len(text.splitlines()) <= 3, text
    assert not [word for word in NEVER if word in text], text
    assert [word for word in words if word in text], text


def exec_five(person: Person, start: Start) -> tuple[int, str]:
    out = ["--out", str(person.folder / "runs"), "--workspace", str(person.work)]
    done = person.run(start([AGENT, "exec", *out, "--", "bash", "-c", "exit 5"]), timeout=120)
    return done.returncode, done.stderr


def test_a_command_ends_with_its_own_code_or_says_that_no_process_can_be_started(
    person: Person,
) -> None:
    codes = []
    for count in range(1, 12):
        with tasks_left(person, count) as start:
            code, err = exec_five(person, start)
        codes.append(code)
        if code == 5:
            assert without_warning(err) == ""
        else:
            assert code == 125, err
            one_message(err, "processes or threads")
    assert codes[0] == 125
    assert codes[-1] == 5


def test_a_verify_command_that_could_not_be_started_is_no_failure_of_the_agent(
    person: Person,
) -> None:
    task = struck.write_task(person, [{"final": "done"}], verify=["true"])
    seen = []
    for count in range(1, 12):
        with tasks_left(person, count) as start:
            done = person.run(start([AGENT, "run", str(task)]), timeout=120)
        assert done.returncode in (0, 5), done.stderr
        assert "verify failed" not in done.stderr
        if done.returncode == 5:
            lines = [one for one in done.stderr.splitlines() if "processes or threads" in one]
            assert lines, done.stderr
            seen += lines
    assert any(line.startswith("error: verify could not be started: true: ") for line in seen), seen


@pytest.mark.as_user
@pytest.mark.parametrize("count", [5, 8, 11, 12, 14, 16, 20, 24, 28, 32, 40, 44])
def test_too_few_descriptors_are_called_that(person: Person, count: int) -> None:
    code, err = exec_five(person, _limited("n", count))
    if code == 5:
        assert without_warning(err) == ""
        return
    assert code == 125, err
    one_message(err, "too many open files")


def _limited(letter: str, value: int) -> Start:
    return lambda argv: ["sh", "-c", f'ulimit -{letter} {value}; exec "$0" "$@"', *argv]


@pytest.mark.as_user
@pytest.mark.parametrize("megabytes", [60, 80, 120])
def test_too_little_memory_is_called_that(person: Person, megabytes: int) -> None:
    code, err = exec_five(person, _limited("v", megabytes * 1024))
    if code == 5:
        assert without_warning(err) == ""
        return
    assert code == 125, err
    one_message(err, "memory", "threads")


@pytest.mark.parametrize("mask", ["077", "777"])
def test_the_starters_umask_is_not_that_of_the_mount_view(person: Person, mask: str) -> None:
    """Else tools cannot enter the folders above their workspace."""
    runs = person.folder / "runs"
    runs.mkdir(mode=0o700)
    person.own(runs)
    task = struck.write_task(person, [{"final": "done"}], verify=["true"])
    done = person.run(["sh", "-c", f'umask {mask}; exec "$0" "$@"', AGENT, "run", str(task)])
    if mask == "777" and person.uid != 0:
        assert done.returncode == 2, "an ordinary user cannot enter the folder of the run"
        assert "Permission denied" in done.stderr
    else:
        assert done.returncode == 0, done.stderr


def test_limits_of_the_tests_are_not_those_of_the_host() -> None:
    """The control: without limits the same command ends with its own code."""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 60
