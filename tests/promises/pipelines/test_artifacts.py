"""The look at what a job leaves finds what is wrong with it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from signal import SIGKILL

import pytest
from identity import Person, someone

from pipelines import artifacts, recipes
from pipelines.play import Plan, play
from pipelines.systems import SYSTEMS, Step, Whom

SYSTEM = next(one for one in SYSTEMS if one.name == "systemd-mixed")


@pytest.fixture(scope="module")
def owner() -> Iterator[Person]:
    yield from someone("user")


@pytest.fixture(scope="module")
def job(owner: Person) -> artifacts.Finished:
    """A job that was cancelled, and is complete."""
    played = play(SYSTEM, owner, Plan())
    assert not played.complaints, played.output
    assert played.code is not None
    place = artifacts.Place(owner, recipes.job(SYSTEM.recipe), SYSTEM.environment)
    return artifacts.Finished(place, played.code, played.output)


def drop_the_last_event(text: str) -> str:
    return "".join(text.splitlines(keepends=True)[:-1])


def drop_an_end(text: str) -> str:
    lines = text.splitlines(keepends=True)
    lines.remove(next(line for line in lines if json.loads(line)["event"] == "ended"))
    return "".join(lines)


def crash(text: str) -> str:
    return text.replace('"outcome":"cancelled"', '"outcome":"crashed"')


WRONG: list[tuple[str, Callable[[str], str], str]] = [
    ("journal.jsonl", lambda text: text[:-1], "torn"),
    ("journal.jsonl", drop_the_last_event, "it ends with"),
    ("journal.jsonl", drop_an_end, "calls without an end"),
    ("journal.jsonl", crash, "ended as crashed"),
    ("result.json", lambda text: text[:-40], "JSONDecodeError"),
    ("result.json", lambda text: text.replace('"interrupted"', '"running"'), "its status is"),
    ("result.json", lambda text: text.replace("143", "0"), "it says exit code 0"),
]


@pytest.mark.parametrize(("name", "change", "complaint"), WRONG, ids=[one[2] for one in WRONG])
def test_it_complains_of(
    job: artifacts.Finished, name: str, change: Callable[[str], str], complaint: str
) -> None:
    assert artifacts.complaints(job) == []
    path = job.folder / name
    text = path.read_text()
    assert change(text) != text
    path.write_text(change(text))
    try:
        assert complaint in "\n".join(artifacts.complaints(job))
    finally:
        path.write_text(text)


def test_it_complains_of_a_file_that_is_not_in_its_place_yet(job: artifacts.Finished) -> None:
    path = job.folder / ".result.json.x"
    path.touch()
    try:
        assert artifacts.complaints(job) == ["nothing_half_written: .result.json.x"]
    finally:
        path.unlink()


def test_a_play_complains_where_the_system_knows_sigkill_only() -> None:
    system = dataclasses.replace(SYSTEM, steps=(Step(0, SIGKILL, Whom.ENTRY),))
    for person in someone("user"):
        complaints = "\n".join(play(system, person, Plan()).complaints)
    for part in ("it took SIGKILL", "ended with -9", "journal: it ends with", "result: its status"):
        assert part in complaints
    assert "left behind" not in complaints
