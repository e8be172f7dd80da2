"""What a model's answers use up."""

from __future__ import annotations

import msgspec


class TokenUsage(msgspec.Struct, frozen=True):
    """Of one answer, or of several together, in tokens as the provider counts them.

    cached: of `input`, those that were read from the provider's cache. reasoning: of `output`,
    those that were spent on thinking. cost_usd: None where no price is known; a sum with one such
    answer in it is the cost of the others.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    cost_usd: float | None = None

    @property
    def total(self) -> int:
        """What counts against a budget of tokens."""
        return self.input + self.output

    def plus(self, other: TokenUsage) -> TokenUsage:
        """The sum."""
        costs = [cost for cost in (self.cost_usd, other.cost_usd) if cost is not None]
        return TokenUsage(
            self.input + other.input,
            self.output + other.output,
            self.cached + other.cached,
            self.reasoning + other.reasoning,
            sum(costs) if costs else None,
        )
