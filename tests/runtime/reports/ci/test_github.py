"""The lines for GitHub's log: one command a line, whatever the texts are."""

from __future__ import annotations

from pathlib import Path

from reported import HOSTILE, RUN, report
from sandbox_agent.reports.ci.github import errors, group
from sandbox_agent.reports.mask import Mask


def test_a_failure_is_an_error_of_the_job_and_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.py").touch()
    failed = report(
        verify=(("pytest -q", 1, "a.py:3: no\n50%"),), status="failed", exit_code=1,
        reason="verify failed: pytest -q", workspace=str(tmp_path),
    )  # fmt: skip
    assert group(failed, Mask()) == f"::group::sandbox-agent run {RUN}\n"
    assert errors(failed, Mask(), tmp_path) == [
        "::error title=sandbox-agent%3A run::failed: verify failed: pytest -q\n",
        "::error title=sandbox-agent%3A pytest -q::exit status 1%0Aa.py:3: no%0A50%25\n",
        "::error title=sandbox-agent%3A pytest -q,file=a.py,line=3::no\n",
    ]
    assert errors(report(), Mask(), tmp_path) == []


def test_hostile_text_makes_no_command_of_its_own(tmp_path: Path) -> None:
    failed = report(
        verify=((HOSTILE, 1, HOSTILE), (HOSTILE, 1, "x" * 100_000)), status="failed", exit_code=1,
        reason=HOSTILE,
    )  # fmt: skip
    lines = errors(failed, Mask(["x" * 100]), tmp_path)
    assert len(lines) == 3
    for line in lines:
        assert line.startswith("::error title=sandbox-agent%3A ")
        assert line.count("\n") == 1 and line.endswith("\n")
        assert not set(line[:-1]) & set("\r\x1b\x00\u202e")
        assert "##[" not in line and "##vso[" not in line and "section_start:" not in line
        assert "%0A::" not in line
        assert len(line) < 60_000
