"""What runtime/README.md says of formats and exit codes is what the code does."""

from __future__ import annotations

import re
from typing import get_args

from paths import CHECKOUT
from sandbox_agent.config.task import Task
from sandbox_agent.exit_codes import ExitCode
from sandbox_agent.journal.events import VERSION, AnyEvent
from sandbox_agent.journal.result_file import Record
from sandbox_agent.journal.status import Status
from sandbox_agent_sandbox.outcome import Outcome

README = (CHECKOUT / "runtime" / "README.md").read_text()
ROWS = [row.strip("| ").split(" | ") for row in README.splitlines() if row.startswith("| ")]


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def paragraph(start: str) -> str:
    found = re.search(rf"^\*\*{re.escape(start)}.*$", README, re.M)
    assert found, start
    return found[0]


def test_every_exit_code_is_listed_with_its_sentence() -> None:
    assert not [code for code in ExitCode if [f"{code:d}", code.sentence] not in ROWS]


def test_every_journal_event_is_listed_with_fields_that_it_has() -> None:
    kinds = {kind.__struct_config__.tag: kind for kind in get_args(AnyEvent)}
    rows = {code(row[0])[0]: code(row[2]) for row in ROWS if len(row) == 3 and code(row[0])}
    for tag, kind in kinds.items():
        assert rows[tag], tag
        assert set(rows[tag]) <= set(kind.__struct_fields__), tag
    assert f"version {VERSION}.**" in README


def test_every_outcome_and_status_is_named() -> None:
    assert {outcome.value for outcome in Outcome} <= set(code(paragraph("Outcome of a call")))
    named = set(code(paragraph("Status of a run")))
    assert named == {status.value for status in Status} - {Status.IDLE.value}


def test_the_named_fields_of_the_result_are_there() -> None:
    fields = set(code(paragraph("result.json"))) - {"running"}
    assert fields <= set(Record.__struct_fields__)


def test_every_budget_is_listed_with_its_default() -> None:
    rows = {code(row[0])[0]: row[2] for row in ROWS if len(row) == 3 and code(row[0])}
    task = Task.model_validate({"version": 1, "model": "scripted:steps.yaml"})
    for name, default in task.budgets:
        assert rows[name] == ("none" if default is None else str(default)), name
