"""The budgets of a run except its time: what the run has used, and whether that is too much.

Each run has its own budgets, which count from its first turn. A replay is the exception. It repeats
in one run what the recorded conversation may have done in several, called segments, and each
segment had its own budgets. So a budget that the replay takes over from the recording counts only
the turns of the last recorded segment. A budget that you set for the replay counts every turn.

Example: the recorded run had `turns: 5`. Its first segment used them up with turns 1 to 5. It was
resumed, and the second segment took turns 6 to 8 and was done. The replay has `turns: 5` from the
recording, so only turns 6, 7 and 8 count, and the replay takes all eight. With `turns: 6`, set for
the replay, every turn counts, and the replay ends after turn 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sandbox_agent.config.plain import PlainBudgets
from sandbox_agent.errors import ModelError
from sandbox_agent.journal.events import ToolCall
from sandbox_agent.journal.history import ToolMessage
from sandbox_agent.journal.usage import TokenUsage, Used
from sandbox_agent.models import ModelTurn
from sandbox_agent.run.loop_detector import LoopDetector

if TYPE_CHECKING:
    from sandbox_agent.config.any_settings import AnyBudgets
    from sandbox_agent.journal.recording import RecordedSegments


class BudgetTracker:
    """Of one run. recorded: the segments of the run that a replay repeats, None for other models.

    used: what the whole run has used, for its record.
    """

    def __init__(self, budgets: AnyBudgets, recorded: RecordedSegments | None) -> None:
        self.used = Used()
        self._budgets = budgets
        self._turns_before = recorded.turns_before_last if recorded is not None else 0
        self._used_in_last_segment = Used()
        self._taken_over = frozenset(
            name
            for name in PlainBudgets.__struct_fields__
            if recorded is not None and getattr(budgets, name) == getattr(recorded.budgets, name)
        )
        self._loop_detector = LoopDetector(budgets.repeats)

    def count(self, turn: ModelTurn, number: int, model: str) -> None:
        """Count an answer. number: of the turn, from 1. model: its name, for the message.

        Raises ModelError for an answer that cannot be held against a budget of tokens or money:
        the provider says no number of tokens (0), or no price is known. A budget that cannot be
        enforced must not seem to be one. An answer without usage used nothing.
        """
        for used in self._counters(number):
            used.requests += 1
            used.add(turn.usage)
        usage = turn.usage
        if usage is None:
            return
        budgets = self._budgets
        if budgets.tokens is not None and self._counts("tokens", number) and not usage.total:
            raise ModelError(
                f"budgets.tokens: {model} does not say how many tokens it uses, so they cannot be "
                f"held against a budget; set budgets.tokens to null, and bound the run by "
                f"budgets.turns and budgets.time"
            )
        if (
            budgets.cost_usd is not None
            and self._counts("cost_usd", number)
            and usage.cost_usd is None
        ):
            raise ModelError(
                f"budgets.cost_usd: what {model} costs is not known, so it cannot be held against "
                f"a budget; set budgets.cost_usd to null, and bound the run by budgets.tokens"
            )

    def count_lost(self, usage: TokenUsage) -> None:
        """Count an answer that came too late to become a turn: it has to be paid for."""
        self.used.add(usage)
        self._used_in_last_segment.add(usage)

    def spent(self) -> str | None:
        """Why the model must not be asked again, or None."""
        budgets = self._budgets
        turns = self._used_for("turns").requests
        tokens = self._used_for("tokens").tokens
        cost = self._used_for("cost_usd").cost_usd or 0.0
        if budgets.turns is not None and turns >= budgets.turns:
            return f"the budget of {budgets.turns} turns is spent"
        if budgets.tokens is not None and tokens >= budgets.tokens:
            return f"the budget of {budgets.tokens} tokens is spent: {tokens} were used"
        if budgets.cost_usd is not None and cost >= budgets.cost_usd:
            return f"the budget of ${budgets.cost_usd:g} is spent: ${cost:g} were used"
        return None

    def repeats(
        self,
        number: int,
        text: str,
        calls: Sequence[ToolCall],
        results: Sequence[ToolMessage],
        user_messages: int,
    ) -> str | None:
        """Compare a turn with those before it. Returns why the run must not go on, or None."""
        if not self._counts("repeats", number):
            return None
        return self._loop_detector.add(text, calls, results, user_messages)

    def _counts(self, name: str, number: int) -> bool:
        """Whether a turn counts against the budget of this name."""
        return number > self._turns_before or name not in self._taken_over

    def _counters(self, number: int) -> tuple[Used, ...]:
        if number > self._turns_before:
            return self.used, self._used_in_last_segment
        return (self.used,)

    def _used_for(self, name: str) -> Used:
        """What counts against the budget of this name."""
        return self._used_in_last_segment if name in self._taken_over else self.used
