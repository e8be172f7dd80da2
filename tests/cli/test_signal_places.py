"""A Ctrl-C at each place where the interpreter looks for one: the code says so, and nothing breaks.

Random instants miss what lies in a few microseconds, such as the start of a thread.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import identity
import pytest
import skips
from identity import Person
from sandbox_agent.embedding.control import Control

SCRIPT = str(Path(__file__).with_name("striking_places.py"))

COMMAND = ["sandbox_agent/cli/__init__", "cli/console", "cli/signals", "cli/cancel", "/threading."]
"""Files of every command, and of the console's threads."""
CLASSES = [
    "/functools.py:cached_property.__set_name__",
    "/enum.py:_proto_member.__set_name__",
    "/importlib/_bootstrap>:_find_and_load",
]
"""Functions that are called from C while modules are being imported."""
RUN = ["/sandbox_agent", "/asyncio/", "/threading."]

pytestmark = pytest.mark.timeout(300)  # hundreds of commands, one after the other


@pytest.fixture
def me() -> Iterator[Person]:
    yield from identity.someone("root")  # whoever runs the tests


def strike(
    me: Person, parts: list[str], *argv: str, every: int = 1, fresh: bool = False
) -> list[dict[str, Any]]:
    """What became of each attempt; the last was not struck."""
    if every == 1 and not skips.is_soak():
        every = 3
    options = ["--every", str(every), *(["--fresh"] if fresh else [])]
    command = [sys.executable, SCRIPT, *options, ",".join(parts), *argv]
    done = me.run(command, timeout=240)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(attempts: list[dict[str, Any]], natural: int, *, until_over: bool = True) -> None:
    """Each ended by its signal, until its end was decided; from there on as without one.

    until_over: whether places were struck that are so late."""
    *struck, free = attempts
    assert free["code"] == natural, free
    # Before our first line installs handlers, SIGINT ends Python by the signal.
    ours = [one for one in struck if one["code"] != -signal.SIGINT]
    assert len(struck) - len(ours) < 10
    for one in ours:
        assert one["code"] in (130, natural), one
        assert "Traceback" not in one["said"], one
        assert "gnored" not in one["said"], one  # "Exception ignored in", of the interpreter
    codes = [one["code"] for one in ours]
    assert codes.count(130) > len(ours) / 4
    assert codes[-1] == (natural if until_over else 130)


def test_a_command_that_fails(me: Person) -> None:
    attempts = strike(me, COMMAND, "cancel", "nobody", "--out", str(me.folder))
    check(attempts, 2)
    assert {one["said"] for one in attempts if one["code"] == 2} == {attempts[-1]["said"]}


def test_a_command_that_prints(me: Person) -> None:
    attempts = strike(me, COMMAND, "--help")
    check(attempts, 0)
    assert {one["said"] for one in attempts if one["code"] == 0} == {attempts[-1]["said"]}


def test_the_imports_of_a_command(me: Person) -> None:
    command = ["validate", str(me.folder / "nothing.yaml")]
    attempts = strike(me, CLASSES, *command, every=97, fresh=True)
    assert len(attempts) > 10
    check(attempts, 2, until_over=False)


def test_a_cancel_that_waits(me: Person) -> None:
    folder = me.folder / "some-run"
    folder.mkdir()
    (folder / "journal.jsonl").touch()
    door = Control(folder, lambda: None)
    try:
        check(strike(me, [*COMMAND, "/control."], "cancel", str(folder), "--wait", "0"), 1)
    finally:
        door.close()


def test_a_run(me: Person) -> None:
    """Every so many places: there are thousands."""
    task = me.folder / "task.yaml"
    steps = [{"calls": [{"shell": {"command": "echo one"}}, {"shell": {"command": "echo two"}}]}]
    me.write(me.folder / "steps.yaml", json.dumps([*steps, {"final": "Done."}]))
    me.write(
        task,
        json.dumps(
            {
                "version": 1,
                "prompt": "Say something.",
                "model": "scripted:steps.yaml",
                "workspace": {"path": str(me.work)},
                "tools": ["shell"],
                "interrupt": {"grace": 5, "term": 5},
                "verify": ["true"],
            }
        ),
    )
    runs = str(me.folder / "runs-{n}")
    attempts = strike(me, RUN, "run", str(task), "--out", runs, every=397)
    check(attempts, 0)
    for one in attempts:
        for folder in Path(runs.format(n=one["n"])).glob("*"):
            names = sorted(os.listdir(folder))
            assert names == ["journal.jsonl", "result.json"], one
            result = json.loads((folder / "result.json").read_text())
            status = "interrupted" if one["code"] == 130 else "done"
            assert (result["status"], result["exit_code"]) == (status, one["code"]), one
