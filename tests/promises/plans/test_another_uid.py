"""A whole run of root's, without namespaces, in a workspace that is another user's: tools are that
user, and root owns what is protected and hidden meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import as_user
import observer
import pytest
import struck
from identity import BIN, CHECKOUT, Person

PERSONS = ["root"]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

AGENT = str(BIN / "sandbox-agent")

REACHABLE = """
import os, sys
sys.path.append(sys.argv[1])
import as_user
as_user.expose([os.path.realpath(one) for one in sys.argv[3].split(":")], int(sys.argv[2]))
os.execv(sys.argv[4], sys.argv[4:])
"""
"""Root's command, where the owner of the workspace reaches the interpreter and our code."""

HOSTILE = """
exec 2>&1
id -u
cat secret; ls hidden; cat hidden/one
echo lax > judge/test; chmod 777 judge; mv judge away; rm -rf judge; mv secret away; rm secret
ln judge/test twice && echo lax > twice
touch made "$HOME/own"; mkdir folder; mv made folder/made; ls "$TMPDIR"
for one in {victims}; do
    kill -9 $one; renice 19 $one; prlimit --pid $one --nofile=1; taskset -p 1 $one
    cat /proc/$one/environ; gdb -p $one < /dev/null
done > /dev/null
(setsid sleep 300.{mark} &)
echo end
"""


@pytest.fixture
def owner(person: Person) -> int:
    """The owner of the workspace and of what is in it."""
    uid = as_user.some_uid()
    for folder in ("judge", "hidden"):
        (person.work / folder).mkdir()
    for name in ("judge/test", "hidden/one", "secret"):
        (person.work / name).write_text(name)
    for path in (person.work, *person.work.rglob("*")):
        os.chown(path, uid, uid)
    person.folder.chmod(0o711)
    return uid


def command(uid: int, *arguments: str) -> list[str]:
    shown = (sys.base_prefix, sys.prefix, str(CHECKOUT))
    support = str(Path(as_user.__file__).parent)
    begin = [sys.executable, "-I", "-c", REACHABLE, support, str(uid), ":".join(shown)]
    return [*begin, sys.executable, AGENT, *arguments]


def owners(work: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for path in (work, *work.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(work))] = (status.st_uid, status.st_gid, status.st_mode)
    return found


def test_a_run_in_another_users_workspace_keeps_what_it_promises(
    person: Person, owner: int
) -> None:
    before, mark = owners(person.work), observer.new_mark()
    with subprocess.Popen(["sleep", "300"], user=owner, group=owner, extra_groups=[]) as theirs:
        try:
            priority = os.getpriority(os.PRIO_PROCESS, theirs.pid)
            victims = f"{theirs.pid} {os.getpid()}"
            text = HOSTILE.replace("{victims}", victims).replace("{mark}", mark)
            task = struck.write_task(
                person,
                [{"calls": [{"shell": {"command": text}}]}, {"final": "done"}],
                sandbox={
                    "plan": "no_namespaces",
                    "protect": [str(person.work / "judge")],
                    "hide": [str(person.work / "secret"), str(person.work / "hidden")],
                },
                verify=['test "$(cat judge/test)" = judge/test && test ! -w judge/test'],
            )
            state = person.folder / "state"
            state.mkdir(mode=0o711)
            argv = command(owner, "run", str(task), "--out", str(person.folder / "runs"))
            done = person.run(argv, env={"XDG_STATE_HOME": str(state)})
            assert done.returncode == 0, done.stderr
            assert theirs.poll() is None
            assert os.getpriority(os.PRIO_PROCESS, theirs.pid) == priority
        finally:
            theirs.kill()
    assert observer.marked(mark) == []
    (run,) = (one for one in (person.folder / "runs").iterdir() if one.is_dir())
    said, levels = told(run)
    assert said[0] == str(owner) and said[-1] == "end"
    assert said.count("home") == 1, "TMPDIR is the sandbox's own"
    assert not {"secret", "hidden/one", "one"} & {*said}
    assert (levels["hide"], levels["protect"]) == ("enforced", "enforced")
    assert json.loads((run / "result.json").read_text())["findings"] == []
    after = owners(person.work)
    made = {name: after.pop(name) for name in ("folder", "folder/made")}
    assert after == before, "given back"
    assert {uid for uid, _, _ in made.values()} == {owner}
    assert (person.work / "judge" / "test").read_text() == "judge/test"
    assert [*state.rglob("own")] == []


def told(run: Path) -> tuple[list[str], dict[str, Any]]:
    """What the tool printed, and the levels in the record."""
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    end = next(event for event in events if event["event"] == "ended")  # then `verify`
    segment = next(event for event in events if event["event"] == "segment")
    assert segment["plan"]["kind"] == "no_namespaces"
    return end["content"].splitlines(), segment["plan"]["levels"]
