"""The Markdown summary of a run, for a job's page, a merge request or a chat.

Text from inside stands only in code spans and code blocks, where no Markdown, HTML, link or
@mention has an effect. Commands to CI systems are disarmed: jobs print such files, too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sandbox_agent.reports.ci.cases import cases_of, run_case, shown_line, shown_tail
from sandbox_agent.reports.ci.log_commands import disarm
from sandbox_agent.reports.escape import escape_text
from sandbox_agent.reports.findings import heading
from sandbox_agent.reports.mask import Mask
from sandbox_agent.reports.report import Report
from sandbox_agent.reports.walls import wall_lines

_ROWS = 50
"""Rows of a table."""
_CELL = 160
_BACKTICKS = re.compile("`+")


def summary(report: Report, mask: Mask) -> str:
    """The summary. It ends with a newline; its size is bounded."""
    case = run_case(report)
    name = report.name or "sandbox-agent"
    parts = [f"## {code(name, mask)}: {report.status}", ""]
    if case.message:
        parts += [code(case.message, mask, 400), ""]
    parts += _table(["", ""], _facts(report, mask))
    parts += _walls(report, mask)
    parts += _verify(report, mask)
    parts += _troubles(report, mask)
    final = report.final_turn
    if final is not None and final.text:
        text = escape_text(mask.apply(final.text.whole()))
        parts += ["### Final message", "", *block(text.splitlines()), ""]
    return "\n".join(parts).rstrip("\n") + "\n"


def _facts(report: Report, mask: Mask) -> list[list[str]]:
    used, end = report.usage(), report.end
    facts = [
        ("Run", code(report.id, mask)),
        ("Exit code", "" if end is None else str(end.exit_code)),
        ("Model", code(report.model, mask)),
        ("Turns", str(len(report.turns))),
        ("Calls", str(sum(not call.is_verify for call in report.calls.values()))),
        ("Tokens", "" if used is None or not used.total else f"{used.total:,}"),
        ("Cost", "" if used is None or used.cost_usd is None else f"${used.cost_usd:.4f}"),
        ("Time", f"{report.seconds():.1f} s"),
        ("Record", code(str(report.folder), mask)),
    ]
    return [[name, value] for name, value in facts if value]


def _walls(report: Report, mask: Mask) -> list[str]:
    """By what its tools were kept inside, where that was less than a full plan."""
    lines = [] if report.last is None else wall_lines(report.last.plan)
    return [*(f"- {code(line, mask, 400)}" for line in lines), ""] if lines else []


def _verify(report: Report, mask: Mask) -> list[str]:
    cases = cases_of(report)[1:]
    if not cases:
        return []
    rows = [
        [
            code(case.name, mask),
            case.verdict.value,
            code(case.message, mask),
            f"{case.seconds:.1f} s",
        ]
        for case in cases
    ]
    parts = ["### Verify", "", *_table(["Command", "Verdict", "Why", "Time"], rows)]
    for case in cases:
        if case.is_bad and case.tail:
            parts += [f"The last lines of {code(case.name, mask)}:", ""]
            parts += [*block(shown_tail(case, mask)), ""]
    return parts


def _troubles(report: Report, mask: Mask) -> list[str]:
    """Calls that did not end well, processes that could not be stopped, and what may start programs
    later."""
    bad = [call for call in report.calls.values() if call.failed and not call.is_verify]
    parts: list[str] = []
    if bad:
        rows = []
        for call in bad[:_ROWS]:
            rung = f" ({call.rung.value})" if call.rung is not None else ""
            how = call.outcome.value if call.outcome is not None else ""
            why = call.detail or call.output.head
            what = f"{call.tool} {call.arguments!r}"
            rows.append([code(call.id, mask), code(what, mask), how + rung, code(why, mask)])
        parts += ["### Calls that did not end well", ""]
        parts += _table(["Call", "What", "Outcome", "Why"], rows, len(bad))
    if report.end is not None and report.end.survivors:
        rows = [[str(one.pid), code(one.command, mask)] for one in report.end.survivors]
        parts += ["### Processes that could not be stopped", "", *_table(["pid", "Command"], rows)]
    if report.end is not None and report.end.findings:
        found = report.end.findings
        rows = [[one.kind.value, code(one.path, mask), code(one.what, mask)] for one in found]
        title, _, why = heading(found).partition(": ")
        parts += [f"### {title.capitalize()}", "", f"{why[0].upper()}{why[1:]}.", ""]
        parts += _table(["", "Path", "What"], rows)
    return parts


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], count: int = 0) -> list[str]:
    """count: of all rows, if only the first ones are given."""
    lines = [_row(head), _row(["---"] * len(head)), *(_row(row) for row in rows[:_ROWS])]
    left_out = max(count, len(rows)) - _ROWS
    if left_out > 0:
        lines.append(_row([f"... and {left_out} more", *[""] * (len(head) - 1)]))
    return [*lines, ""]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def code(text: str, mask: Mask, width: int = _CELL) -> str:
    """A text as a code span on one line. A bar is escaped, because it would end the cell of a
    table: GitHub Flavored Markdown, 4.10."""
    shown = disarm(shown_line(text, mask, width)).replace("|", "\\|")
    if not shown:
        return ""
    fence = "`" * (_longest_run(shown) + 1)
    # A backtick or a space beside the fence needs a space, of which one is removed: 6.3.
    pad = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def block(lines: Sequence[str]) -> list[str]:
    """Lines as a code block. Its fence is longer than any run of backticks in it: 4.5."""
    text = disarm("\n".join(lines))
    fence = "`" * max(3, _longest_run(text) + 1)
    return [f"{fence}text", text, fence]


def _longest_run(text: str) -> int:
    return max((len(run) for run in _BACKTICKS.findall(text)), default=0)
