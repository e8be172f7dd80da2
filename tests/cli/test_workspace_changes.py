"""Calls that the sandbox cannot make, and folders that change under it: no success, and why."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import observer
import pytest
import struck
from identity import BIN, Person

AGENT = str(BIN / "sandbox-agent")
TURN = dict[str, Any]


def shell(command: str) -> TURN:
    return {"calls": [{"shell": {"command": command}}]}


def ends(person: Person) -> dict[str, dict[str, Any]]:
    """The ends of the calls, by id."""
    (folder,) = (path for path in (person.folder / "runs").iterdir() if path.is_dir())
    lines = map(json.loads, (folder / "journal.jsonl").read_text().splitlines())
    return {line["call"]: line for line in lines if line["event"] == "ended"}


def run(person: Person, turns: list[TURN], **more: Any) -> tuple[int, str]:
    task = struck.write_task(person, [*turns, {"final": "All is done."}], **more)
    done = person.run([AGENT, "run", str(task)])
    return done.returncode, done.stderr


def test_a_call_can_mend_a_workspace_that_a_call_has_shut(person: Person) -> None:
    mend = f"chmod 755 {person.work} && echo mended"
    turns = [shell("chmod 000 ."), shell("echo lost > lost"), shell(mend), shell("echo 3 > three")]
    code, err = run(person, turns)
    ended = ends(person)
    assert [ended[f"call_{n}_1"]["outcome"] for n in (1, 2, 3, 4)] == ["ok", "error", "ok", "ok"]
    for call in ("call_2_1", "call_3_1"):
        assert f"the working folder {person.work} cannot be entered" in ended[call]["content"]
    assert "mended" in ended["call_3_1"]["content"]
    assert (person.work / "three").read_text() == "3\n"
    assert sorted(path.name for path in person.work.iterdir()) == ["three"]
    assert code == 0, err


def test_a_verify_command_does_not_judge_another_folder(person: Person) -> None:
    """A workspace that is still shut at the end: in the empty folder nothing would be wrong."""
    code, err = run(person, [shell("chmod 000 .")], verify=["test ! -e broken"])
    person.work.chmod(0o700)
    assert code == 5, err
    assert f"error: verify could not be started: tools may not enter {person.work}; hint:" in err


def test_a_run_in_a_workspace_that_tools_may_not_enter_is_refused(person: Person) -> None:
    owner = person.uid or 12345  # root may enter every folder; the tools' user is the owner
    os.chown(person.work, owner, owner)
    person.work.chmod(0o600)
    task = struck.write_task(person, [shell("true"), {"final": "done"}])
    done = person.run([AGENT, "run", str(task)], cwd=person.folder)
    person.work.chmod(0o700)
    assert done.returncode == 2, done.stderr
    assert str(person.work) in done.stderr
    assert "enter" in done.stderr
    assert "call_1_1" not in done.stderr


def _remove(folder: Path) -> None:
    shutil.rmtree(folder)


def _replace(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir(0o777)


def _rename(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def _swap(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.mkdir(0o777)


def _link(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("home"))


CHANGES: dict[Callable[[Path], None], str] = {
    _remove: "was removed",
    _replace: "was removed",
    _rename: "was moved to",
    _swap: "was moved to",
    _link: "was moved to",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("when", ["in a call", "in the last call"])
def test_a_workspace_that_is_changed_outside_is_no_success(
    person: Person, change: Callable[[Path], None], when: str
) -> None:
    """The call waits for a pipe that stays what it is wherever its folder goes."""
    pipe = person.work / "pipe"
    os.mkfifo(pipe)
    person.own(pipe)
    handle = os.open(pipe, os.O_RDWR)
    more = [shell("echo two > two")] if when == "in a call" else []
    turns = [shell("exec 3<> pipe; touch up; read line <&3"), *more, {"final": "All is done."}]
    task = struck.write_task(person, turns)
    process = person.start([AGENT, "run", str(task)], cwd=person.folder)
    try:
        observer.eventually((person.work / "up").exists, 30)
        change(person.work)
        os.write(handle, b"go on\n")
        _, err = process.communicate(timeout=60)
    finally:
        os.close(handle)
        process.kill()
        process.communicate()
    assert process.returncode == 5, err
    (reason,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert f"the workspace {person.work} {CHANGES[change]}" in reason
    assert not (person.work / "two").exists()


def test_a_folder_of_the_policy_that_is_replaced_outside_is_named(person: Person) -> None:
    data = person.folder / "data"
    data.mkdir()
    person.own(data)
    pipe = person.work / "pipe"
    os.mkfifo(pipe)
    person.own(pipe)
    handle = os.open(pipe, os.O_RDWR)
    turns = [shell("touch up; read line < pipe"), shell(f"echo two > {data}/two"), {"final": "x"}]
    task = struck.write_task(person, turns, sandbox={"write": [str(data)]})
    process = person.start([AGENT, "run", str(task)])
    try:
        observer.eventually((person.work / "up").exists, 30)
        _swap(data)
        os.write(handle, b"go on\n")
        _, err = process.communicate(timeout=60)
    finally:
        os.close(handle)
        process.kill()
        process.communicate()
    assert process.returncode == 5, err
    assert f"write: {data} was moved to" in err


TOOL = '''
def double(number: int) -> int:
    """Double."""
    return 2 * number
'''


@pytest.mark.parametrize("repeated", [False, True])
def test_a_tool_that_cannot_be_imported_any_more_ends_the_run_with_5_unless_it_is_repeated(
    person: Person, repeated: bool
) -> None:
    person.write(person.work / "mine.py", TOOL)
    call = {"calls": [{"double": {"number": 4}}]}
    mend = [shell("mv gone.py mine.py"), call] if repeated else [shell("true")]
    turns = [call, shell("mv mine.py gone.py"), call, *mend]
    code, err = run(person, turns, tools=["shell", "mine:double"])
    ended = ends(person)
    assert (ended["call_1_1"]["outcome"], ended["call_1_1"]["content"]) == ("ok", "8")
    assert ended["call_3_1"]["made"] is False
    assert "there is no module 'mine'" in ended["call_3_1"]["content"]
    if repeated:
        assert ended["call_5_1"]["content"] == "8"
        assert code == 0, err
    else:
        assert code == 5, err
        assert "error: the sandbox could not make call_3_1, double: tool mine:double cannot" in err


@pytest.mark.parametrize(
    "command", ["kill -SEGV $$", "kill -KILL $$", "exit 70", "exit 139"], ids=lambda text: text
)
def test_a_tool_that_dies_of_itself_is_the_agents_business(person: Person, command: str) -> None:
    code, err = run(person, [shell(command)])
    assert ends(person)["call_1_1"]["outcome"] == "error"
    assert code == 0, err


DYING = '''
import os, signal

def die(number: int) -> None:
    """Die."""
    os.kill(os.getpid(), number) if number < 70 else os._exit(number)
'''


@pytest.mark.parametrize("number", [9, 11, 70])
def test_a_python_tool_that_dies_of_itself_is_the_agents_business(
    person: Person, number: int
) -> None:
    person.write(person.work / "mine.py", DYING)
    code, err = run(person, [{"calls": [{"die": {"number": number}}]}], tools=["mine:die"])
    end = ends(person)["call_1_1"]
    assert (end["outcome"], end["started"], end["made"]) == ("crashed", "yes", True)
    assert code == 0, err
