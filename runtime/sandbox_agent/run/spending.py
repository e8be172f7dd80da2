"""What a run uses up, beside what it may."""

from __future__ import annotations

from sandbox_agent.config.settings import Budgets
from sandbox_agent.errors import ModelError
from sandbox_agent.journal.usage import TokenUsage
from sandbox_agent.models import ModelTurn

_DIGITS = 9
"""Of a dollar. Sums of floats are off by less, so that ten times 0.1 is 1 and not a bit below."""


class Spending:
    """Counts one run's answers. The budget of time has a clock of its own.

    requests: answers so far. usage: of all of them; None while nobody has counted.
    """

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self.requests = 0
        self.usage: TokenUsage | None = None

    def count(self, turn: ModelTurn, model: str) -> None:
        """Count an answer of `model`. One without usage used up nothing.

        Raises ModelError when it cannot be held against a budget: no price is known, or, with a
        usage of 0 tokens, nobody has counted. A budget that cannot be kept is no budget.
        """
        self.requests += 1
        usage, budgets = turn.usage, self._budgets
        if usage is None:
            return
        self.add(usage)
        if budgets.tokens is not None and not usage.total:
            raise ModelError(
                f"budgets.tokens: {model} does not say how many tokens it uses, so they cannot be "
                f"held against a budget; set budgets.tokens to null, and bound the run by "
                f"budgets.turns and budgets.time"
            )
        if budgets.cost_usd is not None and usage.cost_usd is None:
            raise ModelError(
                f"budgets.cost_usd: what {model} costs is not known, so it cannot be held against "
                f"a budget; set budgets.cost_usd to null, and bound the run by budgets.tokens"
            )

    def add(self, usage: TokenUsage) -> None:
        """Count what was used up without an answer that could be counted."""
        self.usage = usage if self.usage is None else self.usage.plus(usage)

    @property
    def tokens(self) -> int:
        """Read and written."""
        return 0 if self.usage is None else self.usage.total

    @property
    def cost_usd(self) -> float | None:
        """Of the answers whose price is known; None when none is."""
        if self.usage is None or self.usage.cost_usd is None:
            return None
        return round(self.usage.cost_usd, _DIGITS)

    def spent(self) -> str | None:
        """Why the model is not to be asked again; None while it may be."""
        bounds, cost = self._budgets, self.cost_usd or 0.0
        if bounds.turns is not None and self.requests >= bounds.turns:
            return f"the budget of {bounds.turns} turns is spent"
        if bounds.tokens is not None and self.tokens >= bounds.tokens:
            return f"the budget of {bounds.tokens} tokens is spent: {self.tokens} were used"
        if bounds.cost_usd is not None and cost >= bounds.cost_usd:
            return f"the budget of ${bounds.cost_usd:g} is spent: ${cost:g} were used"
        return None
