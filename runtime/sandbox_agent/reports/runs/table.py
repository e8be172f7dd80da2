"""A list of runs as a table."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox_agent.journal.folder import is_run_id
from sandbox_agent.reports.escape import one_line
from sandbox_agent.reports.runs.figures import age, dollars
from sandbox_agent.reports.runs.summary import Summary

_GAP = 2
_LONGEST = 40
"""Characters of a cell."""

_COLUMNS = ("RUN", "STATUS", "TURNS", "COST", "AGE", "MODEL", "NAME")
_RIGHT = {"TURNS", "COST", "AGE"}
_TAIL = 6
"""Random digits at the end of an id."""
_SHORT = 14
_CUT_FIRST = ("MODEL", "NAME")
"""Columns that lose the ends of their cells on a narrow terminal, down to _SHORT characters."""
_LEFT_OUT_FIRST = ("MODEL", "COST", "TURNS", "AGE", "NAME")
"""Columns that a narrow terminal has no room for."""


def table(runs: Sequence[Summary], now: float, width: int | None = None) -> str:
    """The table, with a heading. now: seconds since the epoch. width: of the terminal, in columns;
    None to leave nothing out. A narrow terminal gets the ends of ids, which name a run, too."""
    rows = [dict(zip(_COLUMNS, _cells(run, now), strict=True)) for run in runs]
    shown = list(_COLUMNS)
    if width is not None and _total(shown, _widths(rows)) > width:
        for row in rows:
            row["RUN"] = row["RUN"][-_TAIL:] if is_run_id(row["RUN"]) else row["RUN"]
    widths = _widths(rows)
    if width is not None:
        for column in _CUT_FIRST:
            too_wide = _total(shown, widths) - width
            widths[column] -= min(max(0, too_wide), max(0, widths[column] - _SHORT))
        for column in _LEFT_OUT_FIRST:
            if _total(shown, widths) > width:
                shown.remove(column)
    lines = [_line({name: name for name in shown}, shown, widths)]
    lines += [_line(row, shown, widths) for row in rows]
    return "".join(f"{line if width is None else line[:width]}\n" for line in lines)


def _widths(rows: Sequence[dict[str, str]]) -> dict[str, int]:
    return {name: max(len(name), *(len(row[name]) for row in rows)) for name in _COLUMNS}


def _total(shown: Sequence[str], widths: dict[str, int]) -> int:
    return sum(widths[name] for name in shown) + _GAP * (len(shown) - 1)


def _line(row: dict[str, str], shown: Sequence[str], widths: dict[str, int]) -> str:
    cells = [_cut(row[name], widths[name]) for name in shown]
    cells = [
        cell.rjust(widths[name]) if name in _RIGHT else cell.ljust(widths[name])
        for name, cell in zip(shown, cells, strict=True)
    ]
    return (" " * _GAP).join(cells).rstrip()


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else f"{cell[: max(0, width - 2)]}.."


def _cells(run: Summary, now: float) -> tuple[str, ...]:
    return (
        one_line(run.run, _LONGEST),
        one_line(run.status, _LONGEST),
        "-" if run.turns is None else str(run.turns),
        dollars(run.cost_usd),
        age(run.begun, now),
        one_line(_model(run.model), _LONGEST) or "-",
        one_line(run.name or "", _LONGEST) or "-",
    )


def _model(model: str) -> str:
    """The name of a model; of a local one without the folders of its file."""
    kind, colon, path = model.partition(":")
    return f"{kind}:{path.rpartition('/')[2]}" if colon and path.startswith("/") else model
