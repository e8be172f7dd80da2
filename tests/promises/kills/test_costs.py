"""The figures of `scripts/bench` can be taken, and are of the right size."""

from __future__ import annotations

from pathlib import Path

import costs_interrupt


def test_every_row_can_be_measured_and_ends_in_bounds_that_a_busy_machine_keeps(
    tmp_path: Path,
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    rows = [
        *costs_interrupt.flag_rows(work, 20),
        costs_interrupt.arun_row(work, 5),
        *costs_interrupt.kill_rows(work, 2, count=10, many=3),
    ]
    assert len({row.what for row in rows}) == len(rows) == 14
    for row in rows:
        bound = row.median_bound or row.worst_bound or 1.0
        # A scheduler that is busy with others adds its time slices.
        assert row.median <= max(0.05, 20 * bound), row.line()
