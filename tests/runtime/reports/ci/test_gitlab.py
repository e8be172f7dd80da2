"""GitLab's reports: failures with their places in files, and variables that are safe in a shell."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from reported import HOSTILE, report
from sandbox_agent.reports.ci.gitlab import code_quality, dotenv
from sandbox_agent.reports.mask import Mask

PRINTED = """\
src/a.py:3: AssertionError
src/a.py:3:7: error: the same line again
E: src/b.py:4:2: E501 line too long
src/gone.py:1: there is no such file
../outside.py:1: not in the workspace
/etc/passwd:1: not in the workspace
no place at all
"""


def issues(root: Path, **more: Any) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = json.loads(code_quality(report(**more), Mask(), root))
    # What GitLab requires of each issue.
    for issue in made:
        assert set(issue) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert issue["severity"] in ("info", "minor", "major", "critical", "blocker")
        assert issue["location"]["lines"]["begin"] >= 1
        assert not issue["location"]["path"].startswith("/")
    assert len({issue["fingerprint"] for issue in made}) == len(made)
    return made


def failing(workspace: Path, printed: str) -> dict[str, Any]:
    verify = (("pytest -q", 1, printed),)
    return {
        "verify": verify, "status": "failed", "exit_code": 1, "reason": "verify failed",
        "workspace": str(workspace),
    }  # fmt: skip


def test_a_failure_is_an_issue_at_each_place_that_it_names(tmp_path: Path) -> None:
    workspace = tmp_path / "project"
    (workspace / "src").mkdir(parents=True)
    for name in ("src/a.py", "src/b.py", "../outside.py"):
        (workspace / name).touch()
    made = issues(tmp_path, **failing(workspace, PRINTED))
    found = [
        (issue["check_name"], issue["location"]["path"], issue["location"]["lines"]["begin"])
        for issue in made
    ]
    assert found == [
        ("sandbox-agent.run", ".", 1),
        ("sandbox-agent.verify", ".", 1),
        ("sandbox-agent.verify", "project/src/a.py", 3),
        ("sandbox-agent.verify", "project/src/b.py", 4),
    ]
    assert made[2]["description"] == "AssertionError"
    # The same failure of another run is the same issue.
    assert made == issues(tmp_path, **failing(workspace, PRINTED))


def test_a_run_that_is_done_has_no_issues(tmp_path: Path) -> None:
    assert issues(tmp_path, verify=(("pytest -q", 0, PRINTED),)) == []


def test_hostile_text_makes_no_place(tmp_path: Path) -> None:
    hostile = HOSTILE + "a\0b.py:1: x\n" + "x" * 300_000 + ":1: y\n" + "/" * 5000 + ":1: z"
    made = issues(tmp_path, **failing(tmp_path, hostile))
    assert [issue["location"]["path"] for issue in made] == [".", "."]


def variables(**more: Any) -> dict[str, str]:
    data = dotenv(report(**more), Mask())
    assert len(data) < 5 * 1024, "GitLab's limit"
    return dict(line.split("=", 1) for line in data.decode().splitlines())


def test_the_variables_of_a_later_job() -> None:
    found = variables(verify=(("a", 0, ""), ("b", 1, "")), status="failed", exit_code=1)
    assert found["SANDBOX_AGENT_STATUS"] == "failed"
    assert found["SANDBOX_AGENT_EXIT_CODE"] == "1"
    assert found["SANDBOX_AGENT_VERIFY_TOTAL"] == "2"
    assert found["SANDBOX_AGENT_VERIFY_FAILED"] == "1"
    assert found["SANDBOX_AGENT_RECORD"] == "/runs/agent-run"


def test_a_shell_that_reads_the_variables_runs_nothing(tmp_path: Path) -> None:
    hostile = "$(touch ran) `touch ran`; touch ran #\n'\""
    data = dotenv(report(name=hostile, reason=hostile, text=hostile), Mask())
    (tmp_path / "d.env").write_bytes(data)
    script = 'while IFS= read -r line; do eval "export \\"$line\\""; done < d.env; env'
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "SANDBOX_AGENT_STATUS=done" in done.stdout.splitlines()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.env"]
