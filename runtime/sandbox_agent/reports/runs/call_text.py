"""A call in a report for people: what was asked, how it ended, the end of its output.

Whatever comes from inside the sandbox, from the model or from a file is masked first and escaped
then. Its lines stand behind a bar, so they cannot pass for lines of the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sandbox_agent.reports.escape import escape_text
from sandbox_agent.reports.report import Call, Text
from sandbox_agent.reports.runs.figures import count, duration, size

Masked = Callable[[str], str]
"""Replaces secrets in a text."""

BAR = "| "
FAILURE_LINES = 20
"""Last lines of the output of a failure."""
_USUAL_LINES = 5
_LONGEST_LINE = 200
_LONGEST_ARGUMENT = 160


def call_lines(call: Call, masked: Masked, *, whole: bool = False) -> Iterator[str]:
    """The lines of a call. whole: all that the report keeps of its output."""
    yield f"{shown(call.id, masked)} {heading(call, masked)}"
    yield f"  {how_it_went(call, masked)}"
    # Masked before it is split: a key may have several lines.
    lines = masked(call.output.whole()).splitlines()
    failed = call.failed or bool(call.exit_status)
    wanted = len(lines) if whole else FAILURE_LINES if failed else _USUAL_LINES
    if (hidden := len(lines) - wanted) > 0:
        also = " and more" if call.output.left_out else ""
        yield f"  {BAR}... ({count(hidden, 'earlier line')}{also} left out)"
    for line in lines[-wanted:] if wanted else ():
        yield f"  {BAR}{_cut(escape_text(line), whole)}"
    if call.output_file is not None:
        yield f"  all of it: {shown(call.output_file, masked)}"
    for image in call.images:
        yield f"  an image ({shown(image.media_type, masked)}, {size(len(image.data))})"
    if call.images_left_out:
        yield f"  {count(call.images_left_out, 'more image')}"
    for path in call.private_files:
        yield f"  lost with the sandbox: {shown(path, masked)}"


def heading(call: Call, masked: Masked) -> str:
    """The tool and its arguments, or the `verify` command."""
    if call.command is not None:
        return f"verify {short(call.command, masked)}"
    return f"{shown(call.tool, masked)} {arguments_text(call.arguments, masked)}".rstrip()


def arguments_text(arguments: object, masked: Masked) -> str:
    """Arguments on one line: `command="ls -la"`."""
    if not isinstance(arguments, dict):
        return short(str(arguments), masked)
    parts = []
    for key, value in arguments.items():
        text = f'"{short(value, masked)}"' if isinstance(value, str) else short(repr(value), masked)
        parts.append(f"{shown(str(key), masked)}={text}")
    return ", ".join(parts)


def how_it_went(call: Call, masked: Masked) -> str:
    """The outcome, what stopped it, and how long that took."""
    if call.outcome is None:
        begun = {"yes": "started", "no": "not started", "maybe": "perhaps started"}
        return f"has no end ({begun[call.started.value]})"
    text = call.outcome.value
    if call.is_verify and call.passed is not None:
        text = "passed" if call.passed else "FAILED"
        if call.outcome.value not in ("ok", "error"):
            text += f" ({call.outcome.value})"
    if call.exit_status:
        text += f", exit status {call.exit_status}"
    if (seconds := _seconds(call)) is not None:
        text += f", {duration(seconds)}"
    if call.rung is not None and call.rungs_ms:
        text += f", stopped in {max(call.rungs_ms.values()):.0f} ms ({call.rung.value})"
    for survivor in call.survivors:
        text += f", COULD NOT STOP {survivor.pid} ({shown(survivor.command, masked)})"
    if call.detail:
        text += f": {short(call.detail, masked)}"
    return text


def _seconds(call: Call) -> float | None:
    begun = call.asked if call.begun is None else call.begun
    return None if begun is None or call.ended is None else max(0.0, call.ended - begun)


def shown(line: str, masked: Masked) -> str:
    """A text on one line, masked and escaped. A long one is cut."""
    # Before it is cut: half of a secret is not recognised.
    return _cut(escape_text(masked(line).replace("\n", " ")), False)


def _cut(line: str, whole: bool) -> str:
    return line if whole or len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}..."


def short(text: str, masked: Masked) -> str:
    """The beginning of a text on one line, masked and escaped."""
    flat = escape_text(" ".join(masked(text).split()))
    return flat if len(flat) <= _LONGEST_ARGUMENT else f"{flat[:_LONGEST_ARGUMENT]}..."


def text_lines(text: Text, masked: Masked) -> list[str]:
    """The lines of what somebody said."""
    return [escape_text(line) for line in masked(text.whole()).splitlines()]
