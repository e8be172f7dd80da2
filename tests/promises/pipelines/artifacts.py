"""What a cancelled job leaves for people and machines to read. All of it must be complete."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from identity import Person
from sandbox_agent.cli.parser import parse

from pipelines import recipes


@dataclass(frozen=True)
class Finished:
    """A job that has ended. script: its recipe's. code: of sandbox-agent. output: its log."""

    person: Person
    script: str
    code: int
    output: str

    def option(self, name: str) -> Path | None:
        """The path that an option of the recipe names."""
        value = getattr(parse(recipes.run_arguments(self.script)).values, name, None)
        return None if value is None else self.person.work / value

    @property
    def folder(self) -> Path:
        return run_folder(self.person)


def run_folder(person: Person) -> Path:
    (journal,) = person.work.glob("runs/*/journal.jsonl")
    return journal.parent


def agent_pid(person: Person) -> int | None:
    """As the journal has it, once the segment has begun."""
    for journal in person.work.glob("runs/*/journal.jsonl"):
        for line in journal.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n") and b'"segment"' in line:
                event = json.loads(line)
                if event["event"] == "segment":
                    return int(event["pid"])
    return None


def complaints(job: Finished) -> list[str]:
    """What is missing, half, or says something else than the exit code."""
    found = []
    for check in CHECKS:
        try:
            found += [f"{check.__name__}: {complaint}" for complaint in check(job)]
        except (OSError, ValueError, LookupError, AssertionError) as error:
            found.append(f"{check.__name__}: {error!r}")
    return found


def journal(job: Finished) -> Iterator[str]:
    text = (job.folder / "journal.jsonl").read_text()
    if not text.endswith("\n"):
        yield "its last line is torn"
    events = [json.loads(line) for line in text.splitlines()]
    last = events[-1]
    if last["event"] != "segment_ended":
        yield f"it ends with {last['event']}"
        return
    yield from _end_of_a_cancelled_run(last, job.code)
    sent = {one["call"] for one in events if one["event"] == "dispatching"}
    ended = [one["call"] for one in events if one["event"] == "ended"]
    if len(set(ended)) != len(ended):
        yield "a call has two ends"
    if not sent <= set(ended):
        yield f"calls without an end: {sorted(sent - set(ended))}"
    for one in events:
        if one["event"] == "ended" and one["outcome"] not in ("cancelled", "killed", "skipped"):
            yield f"{one['call']} ended as {one['outcome']}: {one['content']}"


def result(job: Finished) -> Iterator[str]:
    found = json.loads((job.folder / "result.json").read_text())
    yield from _end_of_a_cancelled_run(found, job.code)
    if found["survivors"]:
        yield f"survivors: {found['survivors']}"


def _end_of_a_cancelled_run(found: dict[str, Any], code: int) -> Iterator[str]:
    if found["status"] != "interrupted":
        yield f"its status is {found['status']}: {found.get('reason')}"
    if found["exit_code"] != code:
        yield f"it says exit code {found['exit_code']}, and {code} was returned"


def nothing_half_written(job: Finished) -> Iterator[str]:
    """A file that is replaced as a whole has had another name before."""
    known = {"journal.jsonl", "result.json", "output"}
    for path in job.folder.iterdir():
        if path.name not in known:
            yield path.name


CHECKS: list[Callable[[Finished], Iterator[str]]] = [journal, result, nothing_half_written]
"""Each looks at one artifact. A report that a recipe asks for has its check here."""
