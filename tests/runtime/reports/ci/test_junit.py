"""The JUnit file is valid, whatever stands in it, and says what the run was judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
import xmlschema
from reported import HOSTILE, RUN, events, report
from sandbox_agent.reports.ci.junit import junit, junit_schema
from sandbox_agent.reports.mask import Mask
from sandbox_agent.reports.report import report_of
from sandbox_agent_sandbox.outcome import Survivor

SCHEMA = xmlschema.XMLSchema(junit_schema())
BIG = "x" * 10_000_000


def suite_of(mask: Mask | None = None, **more: Any) -> Element:
    data = junit(report(**more), mask or Mask())
    SCHEMA.validate(data.decode())
    suite = ElementTree.fromstring(data).find("testsuite")
    assert suite is not None
    counts = {"tests": "testcase", "failures": "*/failure", "errors": "*/error"}
    for attribute, element in {**counts, "skipped": "*/skipped"}.items():
        assert suite.get(attribute) == str(len(suite.findall(element)))
    return suite


def cases(suite: Element) -> list[tuple[str | None, str | None, list[str]]]:
    return [
        (case.get("classname"), case.get("name"), [part.tag for part in case])
        for case in suite.findall("testcase")
    ]


def test_a_case_for_the_run_and_one_for_each_command() -> None:
    suite = suite_of(verify=(("pytest -q", 0, "fine"), ("ruff check", 0, "")))
    assert cases(suite) == [
        ("task", "run", []),
        ("task.verify", "pytest -q", []),
        ("task.verify", "ruff check", []),
    ]
    properties = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert properties["run"] == RUN
    assert properties["status"] == "done" and properties["exit_code"] == "0"
    assert properties["record"] == "/runs/agent-run"
    assert "All done." in (suite.findtext("system-out") or "")
    assert [case.get("time") for case in suite.findall("testcase")] == ["9.500", "0.500", "0.500"]


def test_a_failing_command_shows_its_last_twenty_lines() -> None:
    printed = "\n".join(f"line {number}" for number in range(100))
    verify = (("pytest -q", 1, printed), ("ruff", 0, ""))
    suite = suite_of(verify=verify, status="failed", exit_code=1, reason="verify failed: pytest -q")
    failure = suite.find("testcase[@name='pytest -q']/failure")
    assert failure is not None and failure.text is not None
    assert failure.get("message") == "exit status 1"
    assert failure.text.splitlines() == ["exit status 1", *(f"line {n}" for n in range(80, 100))]
    assert cases(suite)[0] == ("task", "run", ["failure"])


@pytest.mark.parametrize(
    ("status", "code", "tag"),
    [
        ("interrupted", 143, "error"), ("budget", 3, "error"), ("error", 5, "error"),
        ("failed", 1, "failure"), ("paused", 0, "skipped"), ("done", 7, "error"),
    ],
)  # fmt: skip
def test_a_run_that_is_not_done_did_not_pass(status: str, code: int, tag: str) -> None:
    suite = suite_of(status=status, exit_code=code, reason="TERM", later=("pytest -q",))
    assert cases(suite) == [
        ("task", "run", [tag]),
        ("task", "pytest -q", ["skipped"]),
    ]


def test_a_run_whose_agent_was_killed_is_an_error() -> None:
    suite = suite_of(status=None, later=("pytest -q",))
    assert cases(suite)[0] == ("task", "run", ["error"])
    error = suite.find("testcase/error")
    assert error is not None and "the agent was killed" in (error.get("message") or "")


def test_every_prefix_of_a_journal_gives_a_valid_file() -> None:
    made = events(verify=(("a", 0, ""), ("b", 1, "no")), later=("c",))
    for length in range(len(made) + 1):
        data = junit(report_of("run", Path("run"), made[:length]), Mask())
        SCHEMA.validate(data.decode())
        error = ElementTree.fromstring(data).find("testsuite/testcase[@name='run']/error")
        assert (error is None) == (length == len(made)), "only a run with an end is no error"


def test_two_cases_never_have_one_name() -> None:
    suite = suite_of(verify=(("make", 0, ""), ("make", 0, ""), ("make", 0, "")))
    assert [name for _, name, _ in cases(suite)] == ["run", "make", "make (2)", "make (3)"]


@pytest.mark.parametrize("text", [HOSTILE, HOSTILE + BIG + HOSTILE, BIG, "\n" * 100_000])
def test_hostile_text_stays_text(text: str) -> None:
    suite = suite_of(
        verify=((text[:5000], 1, text),), later=(text[:9],), status="failed", exit_code=1,
        reason=text, text=text, name=text[:200] or "x", workspace=text[:50], output=text,
        survivors=(Survivor(7, text[:300]),),
    )  # fmt: skip
    whole = ElementTree.tostring(suite, encoding="unicode")
    assert len(whole) < 400_000
    assert suite.find(".//script") is None
    for character in "\x00\x1b\x07\u202e\ufffe":
        assert character not in whole


def test_secrets_are_masked_everywhere() -> None:
    secret = "s3cret-value-1"
    mask = Mask([secret])
    suite = suite_of(
        mask, verify=((f"run {secret}", 1, f"a {secret}"),), status="failed", exit_code=1,
        reason=secret, text=f"{'x ' * 140}{secret}", name=f"n-{secret}", workspace=f"/{secret}",
        output=secret,
    )  # fmt: skip
    whole = ElementTree.tostring(suite, encoding="unicode")
    assert "s3cret" not in whole and whole.count("***") > 5
