"""Times, amounts and calls are said in few words."""

from __future__ import annotations

from typing import Any

import pytest
from sandbox_agent.reports.report import Call
from sandbox_agent.reports.terminal.words import call_text, duration, money, tokens


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.9, "59 s"),
        (187, "3:07"),
        (3600, "1:00:00"),
    ],
)
def test_a_duration_has_no_more_digits_than_can_be_read(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_tokens_and_money() -> None:
    assert [tokens(n) for n in (0, 950, 12_345, 200_000, 1_234_567)] == [
        "0", "950", "12.3k", "200k", "1.2M",
    ]  # fmt: skip
    assert [money(n) for n in (0.0123, 2)] == ["$0.0123", "$2.00"]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({"command": "make test"}, "make test"),
        ({"command": "make", "timeout": 3}, "make, timeout=3"),
        ({"path": "a.py", "old": "x", "new": "y"}, "a.py, old='x', new='y'"),
        ({"seconds": 1, "unit": "h"}, "seconds=1, unit='h'"),
        ({}, ""),
        ("{torn", "{torn"),
    ],
)
def test_a_call_is_said_by_what_it_does(arguments: Any, shown: str) -> None:
    assert call_text(Call("call_1_1", "tool", 1, arguments=arguments)) == shown


def test_a_huge_argument_costs_little() -> None:
    assert len(call_text(Call("c", "t", 1, arguments={"command": "x" * 10**7}))) == 400
