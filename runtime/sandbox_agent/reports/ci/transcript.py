"""What happened in a run, as plain text of a bounded length, for a report's output."""

from __future__ import annotations

from sandbox_agent.reports.ci.cases import shown_line
from sandbox_agent.reports.escape import escape_text
from sandbox_agent.reports.mask import Mask
from sandbox_agent.reports.report import Call, Message, Report, Turn

LONGEST = 65_536
"""Characters. Of a longer transcript the middle is left out."""
_LINE = 300


def transcript(report: Report, mask: Mask) -> str:
    """Messages, turns and calls, one a line, and the agent's final message as a whole. Masked, then
    cut, then escaped."""
    lines: list[str] = []
    for entry in report.entries:
        if isinstance(entry, Message):
            lines.append(f"user: {shown_line(entry.text.head, mask, _LINE)}")
        else:
            lines += _turn(entry, report, mask)
    lines += [_call(call, mask) for call in report.verify_calls()]
    final = report.final_turn
    if final is not None and final.text:
        lines += ["", escape_text(mask.apply(final.text.whole()))]
    text = "\n".join(lines)
    half = LONGEST // 2
    if len(text) <= LONGEST:
        return text
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n[... {left_out} characters left out ...]\n{text[-half:]}"


def _turn(turn: Turn, report: Report, mask: Mask) -> list[str]:
    lines = []
    if turn.text and not turn.final:
        lines.append(f"turn {turn.number}: {shown_line(turn.text.head, mask, _LINE)}")
    return lines + [_call(report.calls[name], mask) for name in turn.calls if name in report.calls]


def _call(call: Call, mask: Mask) -> str:
    """`call_1_1 shell {'command': 'make'}: error, exit status 2, 1.5 s`."""
    what = call.command if call.command is not None else f"{call.tool} {call.arguments!r}"
    how = call.outcome.value if call.outcome is not None else "no end"
    if call.exit_status:
        how += f", exit status {call.exit_status}"
    if call.begun is not None and call.ended is not None:
        how += f", {call.ended - call.begun:.1f} s"
    return f"  {call.id} {shown_line(what, mask, _LINE)}: {how}"
