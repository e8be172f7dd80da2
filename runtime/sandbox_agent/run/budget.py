"""What bounds a run, but for its time, beside what it has used up.

A run that repeats a recorded one has that one's budgets, and has them as it had: of a run that was
resumed, each segment had its own. What the recorded run did before its last segment is known not
to have been its end, so the budgets of that segment count from its beginning. A budget that was
set otherwise for the replay is its own, and counts from the first turn on.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sandbox_agent.config.settings import Budgets
from sandbox_agent.journal.events import Asked
from sandbox_agent.journal.history import ToolMessage
from sandbox_agent.journal.recording import RecordedSegments
from sandbox_agent.journal.usage import TokenUsage
from sandbox_agent.models import ModelTurn
from sandbox_agent.run.loop_detector import LoopDetector
from sandbox_agent.run.spending import Spending


class BudgetTracker:
    """Of one run. recorded: of a model that repeats another.

    used: all that the run has used up, whatever bounds it.
    """

    def __init__(self, budgets: Budgets, recorded: RecordedSegments | None) -> None:
        own, last = _divided(budgets, recorded)
        self._resumed_after = recorded.resumed_after if recorded is not None else frozenset()
        self._before = recorded.before if recorded is not None else 0
        self.used = Spending(own)
        self._used_last = Spending(last)
        self._repetition = LoopDetector(own.repeats)
        self._repetition_last = LoopDetector(last.repeats)

    def count(self, turn: ModelTurn, number: int, model: str) -> None:
        """Count an answer of `model`. number: of the turn. Raises as `Spending.count`."""
        self.used.count(turn, model)
        if number > self._before:
            self._used_last.count(turn, model)

    def count_lost(self, usage: TokenUsage) -> None:
        """Count what led to no turn."""
        self.used.add(usage)
        self._used_last.add(usage)

    def spent(self) -> str | None:
        """Why the model is not to be asked again; None while it may be."""
        return self.used.spent() or self._used_last.spent()

    def repeats(
        self,
        number: int,
        text: str,
        calls: Sequence[Asked],
        results: Sequence[ToolMessage],
        heard: int,
    ) -> str | None:
        """Take in a turn with its results. Why the run is not to go on, as `LoopDetector.see`."""
        why = self._repetition.see(text, calls, results, heard)
        if why is None and number > self._before:
            why = self._repetition_last.see(text, calls, results, heard)
        return why

    def resumed_after(self, number: int) -> bool:
        """Whether the recorded run went on after that turn, though it had ended with it."""
        return number in self._resumed_after

    def starts_segment(self, number: int) -> bool:
        """Whether a segment of the recorded run began with that turn."""
        before = number - 1
        return before > 0 and (before == self._before or before in self._resumed_after)


def _divided(budgets: Budgets, recorded: RecordedSegments | None) -> tuple[Budgets, Budgets]:
    """The budgets that are the run's own, and those that are the recorded one's last segment's."""
    last = Budgets(repeats=None)
    if recorded is None:
        return budgets, last
    theirs = {
        name: value
        for name, value in msgspec.structs.asdict(budgets).items()
        if value == getattr(recorded.budgets, name)
    }
    own = msgspec.structs.replace(budgets, **dict.fromkeys(theirs))
    return own, msgspec.structs.replace(last, **theirs)
