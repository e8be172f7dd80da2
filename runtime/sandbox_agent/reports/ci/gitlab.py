"""What GitLab takes as `artifacts:reports`: a Code Quality report and a dotenv file. Its report of
tests is JUnit's."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox_agent.reports.ci.cases import Case, cases_of, shown_line, workspace_of
from sandbox_agent.reports.mask import Mask
from sandbox_agent.reports.report import Report

_PLACES = 10
"""Places in files that one failing command contributes."""
_PLACE = re.compile(
    r"^(?:[A-Za-z]{0,20}[ :] {0,2})?"  # such as `ERROR: `
    r"(?P<path>[\w./+-]{1,200}):(?P<line>[1-9]\d{0,6})(?::\d{1,6})?(?::|: | )(?P<text>.{0,300})"
)
"""As compilers, linters and pytest name a place: `src/app.py:12: AssertionError`."""
_PLAIN = re.compile(r"[^A-Za-z0-9 _./:@+,=-]")
_VALUE = 200
"""Characters of a value of a dotenv file. GitLab takes 5 KB for the whole file."""


def code_quality(report: Report, mask: Mask, root: Path) -> bytes:
    """The Code Quality report: an issue for each failing command and for each place in a file that
    the last lines of its output name, and one for a run that is not done.

    root: the folder that paths start at, which is that of the repository.
    """
    issues = [issue for case in cases_of(report) for issue in _issues(case, report, mask, root)]
    return json.dumps(issues, indent=2).encode() + b"\n"


def _issues(case: Case, report: Report, mask: Mask, root: Path) -> Iterator[dict[str, Any]]:
    if not case.is_bad:
        return
    check = "run" if case.call is None else "verify"
    severity = "blocker" if case.call is None else "critical"
    message = shown_line(f"{case.name}: {case.message}", mask)
    yield _issue(check, severity, message, ".", 1, report)
    for path, line, text in places(case, report, root):
        yield _issue(check, "major", shown_line(text, mask) or message, path, line, report)


def _issue(
    check: str, severity: str, description: str, path: str, line: int, report: Report
) -> dict[str, Any]:
    # The same failure of another run has the same fingerprint: so GitLab says what is new.
    known = "\0".join([report.name or "", check, description, path, str(line)])
    return {
        "description": description,
        "check_name": f"sandbox-agent.{check}",
        "fingerprint": hashlib.sha256(known.encode("utf-8", "replace")).hexdigest(),
        "severity": severity,
        "location": {"path": path, "lines": {"begin": line}},
    }


def places(case: Case, report: Report, root: Path) -> list[tuple[str, int, str]]:
    """The files of the workspace that the last lines of a failing command name: path below `root`,
    line, and what is said about it."""
    workspace = workspace_of(report)
    if workspace is None:
        return []
    found: dict[tuple[str, int], str] = {}
    for said in case.tail:
        match = _PLACE.match(said[:600])
        if match is None:
            continue
        path = _below(root, workspace / match["path"], workspace)
        if path is not None:
            found.setdefault((path, int(match["line"])), match["text"].strip())
    return [(path, line, text) for (path, line), text in found.items()][:_PLACES]


def _below(root: Path, file: Path, workspace: Path) -> str | None:
    """The path of a file of the workspace from `root`; None for another file."""
    if ".." in file.parts or not file.is_relative_to(workspace) or not file.is_relative_to(root):
        return None
    try:
        there = file.is_file()
    except (OSError, ValueError):
        return None
    return str(file.relative_to(root)) if there else None


def dotenv(report: Report, mask: Mask) -> bytes:
    """The variables of a dotenv file, for later jobs. They hold no text from inside: a later job
    may use them in a shell."""
    used, end = report.usage(), report.end
    cases = cases_of(report)[1:]
    values = {
        "RUN": report.id,
        "TASK": report.name or "",
        "STATUS": report.status,
        "EXIT_CODE": "" if end is None else str(end.exit_code),
        "MODEL": report.model,
        "TURNS": str(len(report.turns)),
        "CALLS": str(sum(not call.is_verify for call in report.calls.values())),
        "TOKENS": "" if used is None else str(used.total),
        "COST_USD": "" if used is None or used.cost_usd is None else f"{used.cost_usd:.6f}",
        "SECONDS": f"{report.seconds():.1f}",
        "VERIFY_TOTAL": str(len(cases)),
        "VERIFY_FAILED": str(sum(case.is_bad for case in cases)),
        "RECORD": str(report.folder),
    }
    lines = [
        f"SANDBOX_AGENT_{name}={_PLAIN.sub('_', mask.apply(value)[:_VALUE])}\n"
        for name, value in values.items()
        if value
    ]
    return "".join(lines).encode()
