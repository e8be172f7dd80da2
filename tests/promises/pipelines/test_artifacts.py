"""The look at what a job leaves finds what is wrong with it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from signal import SIGKILL

import pytest
from identity import someone

from pipelines import artifacts
from pipelines.play import Plan, play
from pipelines.systems import SYSTEMS, Step, Whom

BY_NAME = {one.name: one for one in SYSTEMS}


CHECKS = [check for check in artifacts.CHECKS if check is not artifacts.page]
"""Those that start no command."""


@pytest.fixture(scope="module")
def jobs() -> Iterator[dict[str, artifacts.Finished]]:
    """Jobs that were cancelled, and are complete; of the systems that have all kinds of reports."""
    found = {}
    with contextlib.ExitStack() as owners:
        for name in ("github", "gitlab"):
            owner = owners.enter_context(contextlib.contextmanager(someone)("user"))
            played = play(BY_NAME[name], owner, Plan())
            assert not played.complaints, played.output
            assert played.finished is not None
            found[name] = played.finished
        yield found


def drop_the_last_event(text: str) -> str:
    return "".join(text.splitlines(keepends=True)[:-1])


def drop_an_end(text: str) -> str:
    lines = text.splitlines(keepends=True)
    lines.remove(next(line for line in lines if json.loads(line)["event"] == "ended"))
    return "".join(lines)


def crash(text: str) -> str:
    return text.replace('"outcome":"cancelled"', '"outcome":"crashed"')


WRONG: list[tuple[str, str, Callable[[str], str], str]] = [
    ("github", "run/journal.jsonl", lambda text: text[:-1], "torn"),
    ("github", "run/journal.jsonl", drop_the_last_event, "it ends with"),
    ("github", "run/journal.jsonl", drop_an_end, "calls without an end"),
    ("github", "run/journal.jsonl", crash, "ended as crashed"),
    ("github", "run/journal.jsonl", lambda t: t.replace('"run":', '"ran":'), "ValidationError"),
    ("github", "run/result.json", lambda text: text[:-40], "JSONDecodeError"),
    (
        "github",
        "run/result.json",
        lambda text: text.replace('"interrupted"', '"running"'),
        "status",
    ),
    ("github", "run/result.json", lambda text: text.replace("130", "0"), "it says exit code 0"),
    ("github", "run/result.json", lambda text: text.replace('"run":', '"ran":'), "ValidationError"),
    ("github", "run/junit.xml", lambda text: text[:-20], "ParseError"),
    ("github", "run/junit.xml", lambda text: text.replace('"130"', '"0"'), "its properties"),
    ("github", "run/junit.xml", lambda text: text.replace("testcase", "case"), "junit: XMLSchema"),
    ("github", "../step-summary.md", lambda text: "", "summary: step-summary.md"),
    ("github", "../step-summary.md", lambda t: t.replace("130", "0"), "the exit code is missing"),
    (
        "gitlab",
        "run/run.env",
        lambda t: t.replace("STATUS=interrupted", "STATUS=x"),
        "dotenv: {",
    ),
    ("gitlab", "run/quality.json", lambda text: "[]", "it has no issue of the run"),
    ("gitlab", "run/quality.json", lambda text: text[:-10], "JSONDecodeError"),
]


@pytest.mark.parametrize(
    ("system", "name", "change", "complaint"), WRONG, ids=[f"{one[1]} {one[3]}" for one in WRONG]
)
def test_it_complains_of(
    jobs: dict[str, artifacts.Finished],
    system: str,
    name: str,
    change: Callable[[str], str],
    complaint: str,
) -> None:
    job = jobs[system]
    path = job.place.person.work / name
    text = path.read_text()
    assert change(text) != text
    path.write_text(change(text))
    try:
        assert complaint in "\n".join(artifacts.complaints(job, CHECKS))
    finally:
        path.write_text(text)


def test_it_complains_of_what_is_missing_or_not_in_its_place_yet(
    jobs: dict[str, artifacts.Finished],
) -> None:
    for job in jobs.values():
        assert artifacts.complaints(job, CHECKS) == []
        report = job.folder / "junit.xml"
        spare = report.rename(job.folder / ".junit.xml.0a1b2c3d")
        found = "\n".join(artifacts.complaints(job, CHECKS))
        assert "junit: " in found
        assert "nothing_half_written: .junit.xml.0a1b2c3d" in found
        spare.rename(report)


def test_a_play_complains_where_the_system_knows_sigkill_only() -> None:
    system = dataclasses.replace(BY_NAME["systemd-mixed"], steps=(Step(0, SIGKILL, Whom.ENTRY),))
    for person in someone("user"):
        complaints = "\n".join(play(system, person, Plan()).complaints)
    for part in ("it took SIGKILL", "ended with -9", "journal: it ends with", "result: its status"):
        assert part in complaints
    assert "left behind" not in complaints
