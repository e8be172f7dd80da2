"""What answers used, added up: whatever their providers count, the sum can be recorded."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from sandbox_agent.journal.usage import TokenUsage


def test_a_sum_adds_everything_and_leaves_out_unknown_prices() -> None:
    one, other = TokenUsage(1, 2, 3, 4, 0.5), TokenUsage(10, 20, 30, 40)
    assert one.plus(other) == TokenUsage(11, 22, 33, 44, 0.5)
    assert other.plus(other).cost_usd is None


def test_a_sum_of_impossible_counts_can_be_recorded() -> None:
    most = TokenUsage(2**53, 2**53, 2**53, 2**53, 9e15)
    total = most.plus(most).plus(most)
    assert msgspec.json.decode(msgspec.json.encode(total), type=TokenUsage) == total
    assert total.total >= 2**53


@pytest.mark.parametrize(
    "fields",
    [{"input": -1}, {"output": 2**63}, {"cached": 10**400}, {"reasoning": -5},
     {"cost_usd": -0.5}, {"cost_usd": 1e300}, {"cost_usd": math.nan}, {"cost_usd": math.inf}],
    ids=lambda fields: next(iter(fields)),
)  # fmt: skip
def test_what_cannot_have_been_used_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        TokenUsage(**fields)


def test_an_event_that_says_so_is_refused_with_the_field() -> None:
    with pytest.raises(msgspec.ValidationError, match="input cannot be -1"):
        msgspec.json.decode(b'{"input": -1}', type=TokenUsage)
