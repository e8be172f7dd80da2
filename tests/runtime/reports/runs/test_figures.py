"""Times, sizes and costs as people read them."""

from __future__ import annotations

import pytest
from sandbox_agent.reports.runs import figures

NOON = 1795867200.0
"""2026-11-28 12:00 UTC."""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.00 s"), (9.994, "9.99 s"), (9.999, "10.0 s"), (59.9, "59.9 s"), (59.99, "1 min 00 s"),
     (125.4, "2 min 05 s"), (3599.9, "1 h 00 min"), (3720, "1 h 02 min")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (3_400_000, "3.4 MB"),
     (10**13, "10000.0 GB")],
)  # fmt: skip
def test_sizes(number: int, text: str) -> None:
    assert figures.size(number) == text


@pytest.mark.parametrize(
    ("cost", "text"), [(None, "-"), (0.0, "$0.00"), (0.01234, "$0.0123"), (12.345, "$12.35")]
)
def test_costs(cost: float | None, text: str) -> None:
    assert figures.dollars(cost) == text


@pytest.mark.parametrize(
    ("at", "text"),
    [("2026-11-28T11:59:59.500Z", "0s"), ("2026-11-28T11:55:00.000Z", "5m"),
     ("2026-11-27T12:00:00.000Z", "1d"), ("2026-11-28T13:00:00.000Z", "0s"), ("soon", "-"),
     ("9999999999", "-"), (None, "-"), ("2026-11-28T10:00:00", "2h")],
)  # fmt: skip
def test_ages(at: str | None, text: str) -> None:
    assert figures.age(at, NOON) == text


def test_counts() -> None:
    assert [figures.count(n, "call") for n in (0, 1, 1200)] == ["0 calls", "1 call", "1,200 calls"]
    assert figures.moment("2026-11-28T00:24:46.059Z") == "2026-11-28 00:24:46 UTC"
    assert figures.moment("\x1b") == "at an unknown time"
