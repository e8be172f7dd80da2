"""What differs between two runs: settings, ends, figures, calls and final words."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from sandbox_agent.journal.usage import rounded
from sandbox_agent.reports.escape import escape_text
from sandbox_agent.reports.report import Call, Report
from sandbox_agent.reports.runs.call_text import Masked, arguments_text, short, shown
from sandbox_agent.reports.runs.figures import dollars, duration

_MOST_CALLS = 2000
"""Calls of each run that are compared: the time grows with the square of their number."""
_COLUMN, _SHORTEST = 48, 8
"""Columns that a value has, at most and at least."""
_LONGEST_NAME = 32


class Difference(msgspec.Struct, frozen=True):
    """A field that the two runs do not agree in, by its dotted name."""

    field: str
    left: Any
    right: Any


class Comparison(msgspec.Struct, frozen=True):
    """left, right: the ids. results: how they went; equal ones too. settings: those that differ.
    calls: the calls of both, as a diff: each begins with a blank, `-` (left only) or `+` (right
    only)."""

    left: str
    right: str
    results: tuple[Difference, ...]
    settings: tuple[Difference, ...]
    calls: tuple[str, ...]


def compared(left: Report, right: Report, masked: Masked) -> Comparison:
    """Compares two runs. masked: replaces secrets in a text."""
    return Comparison(
        left.run,
        right.run,
        tuple(_pairs(_results(left, masked), _results(right, masked))),
        tuple(
            one
            for one in _pairs(_settings(left, masked), _settings(right, masked))
            if one.left != one.right
        ),
        tuple(_calls(left, right, masked)),
    )


def comparison_lines(found: Comparison, width: int | None = None) -> Iterator[str]:
    """The comparison as text. `*` marks what differs. width: of the terminal, in columns."""
    names = [escape_text(one.field) for one in found.results]
    first = min(max(map(len, names)), _LONGEST_NAME)
    column = _COLUMN if width is None else max(_SHORTEST, min(_COLUMN, (width - first - 6) // 2))
    yield _row("", first, column, found.left, found.right, " ")
    for name, one in zip(names, found.results, strict=True):
        left, right = _cell(one.field, one.left), _cell(one.field, one.right)
        yield _row(name, first, column, left, right, " " if one.left == one.right else "*")
    yield ""
    if found.settings:
        yield "settings that differ"
        for one in found.settings:
            left, right = _cell("", one.left), _cell("", one.right)
            yield f"* {escape_text(one.field)}: {left} -> {right}"
    else:
        yield "the settings are the same"
    yield ""
    if not found.calls:
        yield "no calls"
    elif all(line.startswith("  ") for line in found.calls):
        yield "the calls are the same"
    else:
        yield "calls (- only in the first run, + only in the second)"
        yield from _shortened(found.calls)


def _row(name: str, first: int, column: int, left: str, right: str, mark: str) -> str:
    one, other = (_fitted(escape_text(cell), column) for cell in (left, right))
    return f"{mark} {_fitted(name, first):<{first}}  {one:<{column}}  {other}".rstrip()


def _fitted(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(0, width - 3)]}..."


def _cell(field: str, value: Any) -> str:
    if value is None:
        return "-"
    if field == "cost_usd":
        return dollars(value)
    return duration(value) if field == "seconds" else _text(value)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return escape_text(" ".join(text.split())) or "-"


def _results(report: Report, masked: Masked) -> dict[str, Any]:
    usage = report.usage()
    end = report.end
    final = report.final_turn
    return {
        "status": masked(report.status),
        "exit_code": None if end is None else end.exit_code,
        "reason": None if end is None else short(end.reason, masked),
        "model": masked(report.model),
        "segments": len(report.segments),
        "turns": len(report.turns),
        "calls": sum(not call.is_verify for call in report.calls.values()),
        "calls_failed": sum(c.failed and not c.is_verify for c in report.calls.values()),
        "tokens": None if usage is None else usage.total,
        "cost_usd": None if usage is None else rounded(usage.cost_usd),
        "seconds": round(report.seconds(), 3),
        **{
            f"verify {short(call.command or '', masked)}": _verdict(call)
            for call in report.verify_calls()
        },
        "message": None if final is None else short(final.text.whole(), masked),
    }


def _verdict(call: Call) -> str | None:
    return None if call.passed is None else "passed" if call.passed else "failed"


def _settings(report: Report, masked: Masked) -> dict[str, Any]:
    last = report.last
    task = last.settings if last else report.opened.task if report.opened else {}
    return dict(_leaves("", task, masked))


def _leaves(prefix: str, value: Any, masked: Masked) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(f"{prefix}.{key}" if prefix else str(key), item, masked)
    else:
        yield prefix, masked(value) if isinstance(value, str) else _plain(value, masked)


def _plain(value: Any, masked: Masked) -> Any:
    if isinstance(value, list | tuple):
        return [masked(item) if isinstance(item, str) else _plain(item, masked) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item, masked) for key, item in value.items()}
    return masked(value) if isinstance(value, str) else value


def _pairs(left: dict[str, Any], right: dict[str, Any]) -> Iterator[Difference]:
    for field in dict.fromkeys((*left, *right)):
        yield Difference(field, left.get(field), right.get(field))


def _calls(left: Report, right: Report, masked: Masked) -> Iterator[str]:
    one, other = (list(_made(report, masked))[:_MOST_CALLS] for report in (left, right))
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    for kind, begin, end, other_begin, other_end in matcher.get_opcodes():
        if kind == "equal":
            yield from (f"  {line}" for line in one[begin:end])
        else:
            yield from (f"- {line}" for line in one[begin:end])
            yield from (f"+ {line}" for line in other[other_begin:other_end])


def _made(report: Report, masked: Masked) -> Iterator[str]:
    for call in report.calls.values():
        if not call.is_verify:
            outcome = "no end" if call.outcome is None else call.outcome.value
            yield f"{shown(call.tool, masked)} {arguments_text(call.arguments, masked)} [{outcome}]"


def _shortened(lines: tuple[str, ...]) -> Iterator[str]:
    """Long stretches of equal calls become one line."""
    same: list[str] = []
    for line in (*lines, ""):
        if line.startswith("  "):
            same.append(line)
            continue
        if len(same) > 2:
            yield f"  ... {len(same)} equal calls"
        else:
            yield from same
        same = []
        if line:
            yield line
