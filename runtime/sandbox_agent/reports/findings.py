"""What tools left or changed that may start programs, as lines for a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sandbox_agent_sandbox.protection.finding import Finding, FindingKind

from sandbox_agent.reports.escape import one_line

HEAD = "look at these before you work there: they can start programs outside the sandbox"
"""Above the list."""
_WIDTH = max(len(kind.value) for kind in FindingKind)


def heading(findings: Sequence[Finding]) -> str:
    """What stands above the list. Where all was undone, there is nothing left to look at."""
    if all(one.kind is FindingKind.RESTORED for one in findings):
        return "undone: what would have an effect outside the sandbox, or in the next run"
    return HEAD


def finding_lines(
    findings: Sequence[Finding], masked: Callable[[str], str] = lambda text: text
) -> list[str]:
    """The heading, and a line for each. masked: replaces secrets in a text."""
    if not findings:
        return []
    return [heading(findings), *(f"  {one_finding(one, masked)}" for one in findings)]


def one_finding(one: Finding, masked: Callable[[str], str] = lambda text: text) -> str:
    """One finding in one line: `new           .envrc: commands that run when you enter it`."""
    path, what = one_line(masked(one.path), 200), one_line(masked(one.what), 200)
    return f"{one.kind.value:<{_WIDTH}} {path}: {what}" if path else f"{'':<{_WIDTH}} {what}"
