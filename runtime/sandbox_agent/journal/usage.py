"""What a model's answers use: tokens and money, one by one and in a run."""

from __future__ import annotations

import msgspec

_MOST = 2**53
"""Larger integers are not exact in JSON (RFC 8259, 6). A sum ends here, and no event says more."""


class TokenUsage(msgspec.Struct, frozen=True):
    """Of one answer, or of several together, in tokens as the provider counts them.

    cached: the part of `input` that came from the provider's cache. reasoning: the part of `output`
    that was thinking. cost_usd: None if no price is known. A sum leaves out answers without one.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    cost_usd: float | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for what cannot have been used; msgspec calls it for an event too."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= _MOST:
                raise ValueError(f"{name} cannot be {value}")

    @property
    def total(self) -> int:
        """The tokens that count against a budget."""
        return self.input + self.output

    def plus(self, other: TokenUsage) -> TokenUsage:
        """The sum."""
        costs = [cost for cost in (self.cost_usd, other.cost_usd) if cost is not None]
        return TokenUsage(
            min(self.input + other.input, _MOST),
            min(self.output + other.output, _MOST),
            min(self.cached + other.cached, _MOST),
            min(self.reasoning + other.reasoning, _MOST),
            min(sum(costs), float(_MOST)) if costs else None,
        )


def rounded(cost: float | None) -> float | None:
    """Dollars. Rounding makes ten times 0.1 one dollar, and not a bit less as floats have it."""
    return None if cost is None else round(cost, 9)


class Used:
    """What a run has used. requests: answers of the model. usage: of all of them together; None
    while no answer told its usage."""

    def __init__(self) -> None:
        self.requests = 0
        self.usage: TokenUsage | None = None

    def add(self, usage: TokenUsage | None) -> None:
        """Add what one answer used; nothing if it is None."""
        if usage is not None:
            self.usage = usage if self.usage is None else self.usage.plus(usage)

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return 0 if self.usage is None else self.usage.total

    @property
    def cost_usd(self) -> float | None:
        """Of the answers whose price is known; None when none is."""
        return None if self.usage is None else rounded(self.usage.cost_usd)
