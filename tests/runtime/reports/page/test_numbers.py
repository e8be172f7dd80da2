"""Numbers as people read them."""

from __future__ import annotations

import pytest
from sandbox_agent.reports.page.numbers import count, dollars, duration, when


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0, "0 ms"),
        (0.35, "350 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (3.24, "3.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (7260, "2 h 1 min"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_costs_counts_and_times() -> None:
    assert [dollars(one) for one in (None, 0, 0.00421, 0.5, 12.346)] == [
        *("", "$0.00", "$0.00421", "$0.5", "$12.35")
    ]
    assert count(1, "call") == "1 call"
    assert count(2000, "call") == "2,000 calls"
    assert when("2026-11-28T05:50:29.724Z") == "2026-11-28 05:50:29 UTC"
    assert when("yesterday\x1b") == "yesterday\x1b"
