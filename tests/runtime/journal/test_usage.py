"""What answers used, added up: whatever their providers count, the sum can be recorded."""

from __future__ import annotations

import msgspec
from sandbox_agent.journal.usage import TokenUsage


def test_a_sum_adds_everything_and_leaves_out_unknown_prices() -> None:
    one, other = TokenUsage(1, 2, 3, 4, 0.5), TokenUsage(10, 20, 30, 40)
    assert one.plus(other) == TokenUsage(11, 22, 33, 44, 0.5)
    assert other.plus(other).cost_usd is None


def test_a_sum_of_impossible_counts_can_be_recorded() -> None:
    most = TokenUsage(2**63, 2**63, 2**63, 2**63, 1e308)
    total = most.plus(most).plus(most)
    assert msgspec.json.decode(msgspec.json.encode(total), type=TokenUsage) == total
    assert total.total >= 2**53
