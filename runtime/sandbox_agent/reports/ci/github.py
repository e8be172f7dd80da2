"""Lines in the log of a GitHub Actions job: a failure shows at the job and at the file."""

from __future__ import annotations

from pathlib import Path

from sandbox_agent_sandbox.protection.finding import FindingKind

from sandbox_agent.reports.ci.cases import cases_of, shown_line, shown_tail
from sandbox_agent.reports.ci.gitlab import places
from sandbox_agent.reports.ci.log_commands import github_command
from sandbox_agent.reports.findings import finding_lines
from sandbox_agent.reports.mask import Mask
from sandbox_agent.reports.report import Report
from sandbox_agent.reports.walls import missing_in

_MOST = 10
"""GitHub shows ten errors of a step."""


def group(report: Report, mask: Mask) -> str:
    """The line that begins the group with the progress of a run."""
    return github_command("group", f"sandbox-agent run {shown_line(report.id, mask)}")


def errors(report: Report, mask: Mask, root: Path) -> list[str]:
    """An `::error` line for each case that is bad, and for each place that it names, and a warning
    where tools left what may start programs. root: the folder of the repository."""
    lines: list[str] = []
    for case in cases_of(report):
        if not case.is_bad:
            continue
        text = "\n".join([shown_line(case.message, mask), *shown_tail(case, mask)])
        title = f"sandbox-agent: {shown_line(case.name, mask, 120)}"
        lines.append(github_command("error", text, title=title))
        for path, line, said in places(case, report, root):
            shown = shown_line(said or case.message, mask)
            lines.append(github_command("error", shown, title=title, file=path, line=str(line)))
    return [*lines[:_MOST], *_warnings(report, mask)]


def _warnings(report: Report, mask: Mask) -> list[str]:
    """A `::warning` line for what was not enforced, and one for what tools left that may start
    programs."""
    found = report.end.findings if report.end is not None else ()
    found = tuple(one for one in found if one.kind is not FindingKind.RESTORED)
    text = "\n".join(finding_lines(found, lambda text: shown_line(text, mask)))
    said = {"sandbox-agent: not enforced": _missing(report, mask)}
    said["sandbox-agent: look at these"] = text
    return [github_command("warning", text, title=title) for title, text in said.items() if text]


def _missing(report: Report, mask: Mask) -> str:
    plan = None if report.last is None else report.last.plan
    lines = (f"sandbox.{name}: {why}" for name, why in missing_in(plan).items())
    return "\n".join(shown_line(line, mask) for line in lines)
