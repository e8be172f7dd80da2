"""What a cancelled job leaves for people and machines to read. All of it must be complete."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Any
from xml.etree import ElementTree

from identity import Person
from jsonschema import Draft202012Validator, ValidationError
from sandbox_agent.cli.parser import parse
from sandbox_agent.cli.verbs.schema import journal_schema, result_schema
from sandbox_agent.reports.ci.junit import junit_schema
from xmlschema import XMLSchema

from pipelines import recipes

STEP_SUMMARY = "GITHUB_STEP_SUMMARY"

_WRONG = (OSError, ValueError, LookupError, AssertionError, SyntaxError, ValidationError)
"""What a check may raise: the file is not there, or is none of its kind. SyntaxError: of XML."""


@dataclass(frozen=True)
class Place:
    """Where a job leaves its artifacts. recipe: its file. script: what it runs. environment: of the
    system."""

    person: Person
    recipe: str
    script: str
    environment: Mapping[str, str]

    def option(self, name: str) -> Path | None:
        """The path that an option of the recipe names."""
        value = getattr(parse(recipes.run_arguments(self.script)).values, name, None)
        if value is None:
            return None
        return self.path(value)

    def path(self, written: str) -> Path:
        """A path as the recipe writes it."""
        return self.person.work / Template(written).substitute(self.environment)

    def journal(self) -> Path | None:
        """The file, when it is there."""
        folder, runs = self.option("run_dir"), self.option("out")
        assert folder or runs, "the recipe does not say where the record is"
        if folder is None:
            found = list(runs.glob("*/journal.jsonl")) if runs else []
        else:
            found = list(folder.glob("journal.jsonl"))
        assert len(found) < 2, found
        return found[0] if found else None

    def agent_pid(self) -> int | None:
        """Of sandbox-agent, as the journal has it once the segment has begun."""
        journal = self.journal()
        for line in journal.read_bytes().splitlines(keepends=True) if journal else ():
            if line.endswith(b"\n") and b'"segment"' in line:
                event = json.loads(line)
                if event["event"] == "segment":
                    return int(event["pid"])
        return None


@dataclass(frozen=True)
class Finished:
    """A job that has ended. code: of sandbox-agent. output: its log."""

    place: Place
    code: int
    output: str

    @property
    def folder(self) -> Path:
        """The run's."""
        journal = self.place.journal()
        assert journal is not None, "there is no journal"
        return journal.parent


Check = Callable[[Finished], Iterator[str]]


@cache
def _line_schema() -> Any:
    return Draft202012Validator(journal_schema())


@cache
def _result_schema() -> Any:
    return Draft202012Validator(result_schema())


@cache
def _junit_schema() -> Any:
    return XMLSchema(junit_schema())


def complaints(job: Finished, checks: Sequence[Check] | None = None) -> list[str]:
    """What is missing, half, or says something else than the exit code. checks: all of CHECKS."""
    found = []
    for check in CHECKS if checks is None else checks:
        try:
            for complaint in check(job):
                found.append(f"{check.__name__}: {complaint}")
        except _WRONG as error:
            place = getattr(error, "filename", None) or ""
            found.append(f"{check.__name__}: {error!r} {place}".rstrip())
    return found


def journal(job: Finished) -> Iterator[str]:
    text = (job.folder / "journal.jsonl").read_text()
    if not text.endswith("\n"):
        yield "its last line is torn"
    events = [json.loads(line) for line in text.splitlines()]
    for event in events:
        _line_schema().validate(event)
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
    _result_schema().validate(found)
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
    options = ("junit", "summary", "dotenv", "codequality")
    reports = {path for name in options if (path := job.place.option(name)) is not None}
    reports |= set(_pages(job))
    known = {job.folder / name for name in ("journal.jsonl", "result.json", "output")} | reports
    for folder in {job.folder, *(path.parent for path in reports - {job.folder})}:
        for path in folder.iterdir():
            if path not in known and (folder == job.folder or path.name.startswith(".")):
                yield path.name


def junit(job: Finished) -> Iterator[str]:
    path = job.place.option("junit")
    if path is None:
        return
    _junit_schema().validate(path)
    suite = ElementTree.parse(path).getroot().find("testsuite")
    assert suite is not None
    cases = suite.findall("testcase")
    bad = [one for one in cases if one.find("failure") is not None or one.find("error") is not None]
    if not cases or suite.get("tests") != str(len(cases)):
        yield f"it has {len(cases)} cases and says {suite.get('tests')}"
    if not bad:
        yield "no case has failed"
    said = {one.get("name"): one.get("value") for one in suite.iter("property")}
    if (said.get("status"), said.get("exit_code")) != ("interrupted", str(job.code)):
        yield f"its properties are {said}"
    if suite.find("system-out") is None:
        yield "it has no system-out"


def summary(job: Finished) -> Iterator[str]:
    step = job.place.environment.get(STEP_SUMMARY)
    for path in (job.place.option("summary"), Path(step) if step else None):
        if path is not None:
            text = path.read_text()
            if not text.startswith("## `job`: interrupted\n") or not text.endswith("\n"):
                yield f"{path.name}: {text[:100]!r} … {text[-100:]!r}"
            if f"| Exit code | {job.code} |" not in text:
                yield f"{path.name}: the exit code is missing"


def dotenv(job: Finished) -> Iterator[str]:
    path = job.place.option("dotenv")
    if path is None:
        return
    said = dict(line.split("=", 1) for line in path.read_text().splitlines())
    found = said.get("SANDBOX_AGENT_STATUS"), said.get("SANDBOX_AGENT_EXIT_CODE")
    if found != ("interrupted", str(job.code)):
        yield str(said)


def code_quality(job: Finished) -> Iterator[str]:
    path = job.place.option("codequality")
    if path is not None and "sandbox-agent.run" not in {
        one["check_name"] for one in json.loads(path.read_text())
    }:
        yield "it has no issue of the run"


def page(job: Finished) -> Iterator[str]:
    """What the recipe does after the job, which is to make the HTML file."""
    for script in recipes.after(job.place.recipe):
        done = job.place.person.run(["sh", "-e", "-c", script], env=job.place.environment)
        if done.returncode:
            yield f"{script}: exit code {done.returncode}: {done.stderr}"
    for path in _pages(job):
        text = path.read_text()
        if not text.startswith("<!doctype html>") or not text.rstrip().endswith("</html>"):
            yield f"it is cut: {text[:60]!r} … {text[-60:]!r}"
        if "interrupted" not in text or "<svg" not in text:
            yield "it does not show how the run ended"


def _pages(job: Finished) -> Iterator[Path]:
    for script in recipes.after(job.place.recipe):
        for words in filter(None, map(recipes.arguments, recipes.commands(script))):
            yield job.place.path(parse(words).values.html)


CHECKS: list[Check] = [
    journal,
    result,
    nothing_half_written,
    junit,
    summary,
    dotenv,
    code_quality,
    page,
]
"""Each looks at one artifact. A new report has its check here; one that a recipe does not ask for
is not looked for."""
