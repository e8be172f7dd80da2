"""What tools left that may start programs stands in every report, and has no effect in one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pages
from reported import HOSTILE, report
from sandbox_agent.reports.ci.github import errors
from sandbox_agent.reports.ci.junit import junit
from sandbox_agent.reports.ci.summary import summary
from sandbox_agent.reports.findings import HEAD, finding_lines
from sandbox_agent.reports.mask import Mask
from sandbox_agent.reports.page.render import html_of
from sandbox_agent.reports.runs.data import data_of
from sandbox_agent.reports.runs.text import text_of
from sandbox_agent_sandbox.protection.finding import Finding, FindingKind

NEW = Finding(FindingKind.NEW, "sub/.envrc", "commands")
UNDONE = Finding(FindingKind.RESTORED, ".git/config", "alias.st = s3cret-word", "call_1_1")
BAD = Finding(FindingKind.NEW, HOSTILE.replace("\ud800", ""), HOSTILE.replace("\ud800", ""))


def test_the_lines_for_a_person() -> None:
    assert finding_lines([]) == []
    assert finding_lines([NEW, UNDONE]) == [
        HEAD,
        "  new          sub/.envrc: commands",
        "  restored     .git/config: alias.st = s3cret-word",
    ]
    assert finding_lines([UNDONE])[0].startswith("undone: ")
    assert finding_lines([Finding(FindingKind.UNSEEN, "", "... and 7 more")])[1].split() == [
        "...", "and", "7", "more",
    ]  # fmt: skip
    shown = finding_lines([BAD])[1]
    assert not set("\x00\x07\x1b\u202e\n\r") & set(shown)


def test_every_report_has_them_and_masks_secrets(tmp_path: Path) -> None:
    run, mask = report(findings=(NEW, UNDONE)), Mask({"s3cret-word": "KEY"})
    texts = {
        "text": "\n".join(text_of(run, mask.apply)),
        "data": msgspec.json.encode(data_of(run, mask.apply)).decode(),
        "summary": summary(run, mask),
        "junit": junit(run, mask).decode(),
        "page": pages.Read(html_of(run, mask)).text,
    }
    for name, text in texts.items():
        assert "sub/.envrc" in text and "alias.st" in text, name
        assert "s3cret-word" not in text, name
    (warning,) = errors(run, mask, tmp_path)
    assert warning.startswith("::warning ") and "sub/.envrc" in warning
    assert ".git/config" not in warning, "what is undone needs no look"


def test_hostile_names_have_no_effect(tmp_path: Path) -> None:
    run = report(findings=(BAD,))
    assert not pages.Read(html_of(run, Mask())).wrong
    lines = [line for text in errors(run, Mask(), tmp_path) for line in text.splitlines()]
    assert [line[:10] for line in lines] == ["::warning "]
    assert "\n::" not in summary(run, Mask())
    assert "<script>" not in junit(run, Mask()).decode()
