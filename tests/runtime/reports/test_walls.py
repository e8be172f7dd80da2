"""A plan that is not full, and what is missing, stand in every report; a full plan is no news."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pages
import pytest
from live import segment
from reported import HOSTILE, report
from sandbox_agent.reports.ci.github import errors
from sandbox_agent.reports.ci.junit import junit
from sandbox_agent.reports.ci.summary import summary
from sandbox_agent.reports.lines import Progress
from sandbox_agent.reports.mask import Mask
from sandbox_agent.reports.page.render import html_of
from sandbox_agent.reports.runs.data import data_of
from sandbox_agent.reports.runs.log import log_lines
from sandbox_agent.reports.runs.text import text_of
from sandbox_agent.reports.walls import first_lines, missing_in, plan_of, wall_lines

WEAKER: dict[str, Any] = {
    "kind": "no_namespaces",
    "levels": {"read": "enforced", "protect": "restored", "hide": "missing"},
    "missing": {"hide": "Landlock cannot hide s3cret-word"},
    "left_open": ["metadata: of all files", "names"],
}


def test_the_lines_for_a_person() -> None:
    assert wall_lines(WEAKER) == [
        "plan no_namespaces: Landlock and seccomp, without namespaces (`sandbox-agent doctor` says"
        " what it leaves open, and how to get a stronger one)",
        "restored, not prevented: protect",
        "open outside: metadata; names",
        "MISSING, as --allow-degraded allows: sandbox.hide: Landlock cannot hide s3cret-word",
    ]
    progress = Progress().line(msgspec.structs.replace(segment(), plan=WEAKER))
    assert progress == "\n".join(first_lines(WEAKER))
    *same, missing = first_lines(WEAKER)
    assert same == wall_lines(WEAKER)[:-1]
    assert missing == "MISSING, as --allow-degraded allows: sandbox.hide"


def test_what_a_full_plan_would_restore_too_is_not_named() -> None:
    levels = {
        "protect": "restored",
        "protect_defaults": "restored",
        "limits.disk": "restored",
        "limits.processes": "restored",
    }
    plan = {"kind": "no_namespaces", "levels": levels, "protected": []}
    assert wall_lines(plan)[1:] == ["restored, not prevented: protect_defaults, limits.processes"]
    assert len(wall_lines({**plan, "kind": "shared_proc"})) == 2
    del levels["limits.processes"]
    assert len(wall_lines({**plan, "kind": "shared_proc"})) == 1


@pytest.mark.parametrize("plan", [None, {}, {"kind": "full", "levels": {"disk": "restored"}}])
def test_a_full_plan_that_keeps_all_is_not_mentioned(plan: dict[str, Any] | None) -> None:
    assert wall_lines(plan) == [] and missing_in(plan) == {}
    assert plan_of(plan) == ("" if plan is None else "full")
    assert Progress().line(msgspec.structs.replace(segment(), plan=plan)) is None


def test_every_report_has_it_and_masks_secrets(tmp_path: Path) -> None:
    run, mask = report(plan=WEAKER), Mask({"s3cret-word": "KEY"})
    texts = {
        "text": "\n".join(text_of(run, mask.apply)),
        "log": "\n".join(
            log_lines(run, msgspec.structs.replace(segment(), plan=WEAKER), mask.apply)
        ),
        "data": msgspec.json.encode(data_of(run, mask.apply)).decode(),
        "summary": summary(run, mask),
        "junit": junit(run, mask).decode(),
        "page": pages.Read(html_of(run, mask)).text,
    }
    for name, text in texts.items():
        assert "no_namespaces" in text and "Landlock cannot hide" in text, name
        assert "s3cret-word" not in text, name
    (warning,) = errors(run, mask, tmp_path)
    assert warning.startswith("::warning ") and "sandbox.hide" in warning
    assert "s3cret-word" not in warning


def test_a_journal_that_somebody_changed_has_no_effect(tmp_path: Path) -> None:
    bad = HOSTILE.replace("\ud800", "")
    run = report(plan={"kind": bad, "levels": {bad: "restored"}, "missing": {bad: bad}})
    assert not pages.Read(html_of(run, Mask())).wrong
    for text in wall_lines(run.segments[-1].plan):
        assert not set("\x00\x07\x1b\u202e\n\r") & set(text)
    for odd in ({"kind": 7}, {"kind": "full", "missing": [1]}, {"kind": "x", "levels": 3}):
        wall_lines(odd)
        missing_in(odd)
