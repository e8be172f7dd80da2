"""The figures of `scripts/bench` can be taken. Their bounds are the bench's: it exits with 1."""

from __future__ import annotations

from pathlib import Path

import costs_interrupt


def test_every_row_can_be_measured(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    rows = [
        *costs_interrupt.flag_rows(work, 5),
        costs_interrupt.arun_row(work, 2),
        *costs_interrupt.kill_rows(work, 1, count=5, many=2),
    ]
    assert len({row.what for row in rows}) == len(rows) == 14
    assert all(figure > 0 for row in rows for figure in row.figures)
