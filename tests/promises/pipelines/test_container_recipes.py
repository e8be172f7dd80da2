"""The recipes for containers, played by runc: each runs a task to its end, and a stop of the
container interrupts the run, leaves nothing, and the record is complete."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import environments
import observer
import pytest
import struck
from identity import Person, someone
from sandbox_agent.cli.parser import parse
from sandbox_agent.config.settings import Interrupt

from pipelines import containers
from pipelines.containers import Container

LINES = 25
"""Lines of a recipe at most."""


def test_every_recipe_is_short_and_played() -> None:
    names = sorted(path.name for path in containers.FOLDER.iterdir())
    assert names == sorted(containers.NAMES)
    for name in names:
        assert len(containers.text(name).splitlines()) <= LINES, name


@pytest.mark.parametrize("name", containers.NAMES)
def test_what_a_recipe_runs_is_known_and_has_time_to_stop(name: str) -> None:
    found = containers.container(name)
    words = found.argv[-1].split() if found.argv[0] == "sh" else found.argv
    if found.argv[0] == "sh":
        assert words[0] == "exec", "a shell that waits for a command passes no signal on"
    values = parse(words[words.index("sandbox-agent") + 1 :]).values
    records = values.run_dir or values.out
    assert records.startswith("/runs"), "tools must not write to the record"
    assert found.as_root or found.home, "a user without an account has no home folder"
    assert Interrupt().grace + Interrupt().term + 0.5 < found.patience


@pytest.fixture(params=containers.NAMES)
def played(request: pytest.FixtureRequest) -> Iterator[tuple[Container, Person]]:
    """A recipe, and the person as whom its container runs."""
    found = containers.container(request.param)
    place = environments.ENVIRONMENTS[found.place]
    if why := place.missing():
        pytest.skip(f"needs runc: {why}")
    for person in someone("root" if found.as_root else "user"):
        (person.folder / "runs").mkdir()
        person.own(person.folder / "runs")
        yield found, replace(person, place=place, is_first=found.is_first)


def command(found: Container, person: Person) -> list[str]:
    """The recipe's command, with the folders of the test in the places of its volumes."""
    places = {"/runs": person.folder / "runs", "/work": person.work}
    return [_moved(word, places) for word in found.argv]


def _moved(word: str, places: dict[str, Path]) -> str:
    for path, other in places.items():
        word = word.replace(path, str(other))
    return word


def write_task(person: Person, script: str, marks: list[str]) -> None:
    """task.yaml at the top of the workspace, as in the recipes."""
    turns = [struck.turn_of(script, marks), {"final": "Done."}]
    person.write(person.work / "steps.yaml", json.dumps(turns))
    task = {
        "version": 1,
        "prompt": "Work.",
        "model": "scripted:steps.yaml",
        "tools": ["shell"],
        "interrupt": {"grace": struck.GRACE, "term": struck.TERM},
    }
    person.write(person.work / "task.yaml", json.dumps(task))


def result_of(person: Person) -> dict[str, object]:
    [path] = (person.folder / "runs").rglob("result.json")
    found: dict[str, object] = json.loads(path.read_text())
    return found


def test_a_recipe_runs_a_task(played: tuple[Container, Person]) -> None:
    found, person = played
    write_task(person, "echo {mark} > made", ["7"])
    ran = person.run(command(found, person))
    assert ran.returncode == 0, ran.stderr
    assert (person.work / "made").read_text() == "7\n"
    assert result_of(person)["status"] == "done"


def test_a_stopped_container_interrupts_its_run(played: tuple[Container, Person]) -> None:
    """`docker stop` and Kubernetes send SIGTERM to the first process; runc passes it on."""
    found, person = played
    mark = observer.new_mark()
    write_task(person, struck.HOSTILE, [mark])
    with struck.at_work(person, command(found, person), [mark]) as run:
        run.agent.send_signal(signal.SIGTERM)
        _, err = run.agent.communicate(timeout=60)
    assert run.agent.returncode == 143, err
    assert observer.marked(mark) == []
    result = result_of(person)
    assert (result["status"], result["survivors"]) == ("interrupted", [])
