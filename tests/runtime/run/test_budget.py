"""Budgets of tokens and money: kept, told, recorded, and raised when a run is resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import talking
from sandbox_agent.config.settings import Budgets
from sandbox_agent.conversation import Conversation, RunResult
from sandbox_agent.errors import ConfigError, ModelError
from sandbox_agent.journal.events import SegmentEnded, SegmentStarted, TurnTaken
from sandbox_agent.journal.file import JOURNAL_FILE
from sandbox_agent.journal.recording import RecordedSegments
from sandbox_agent.journal.result_file import read_record
from sandbox_agent.journal.status import Status
from sandbox_agent.journal.usage import TokenUsage
from sandbox_agent.models import Model, ModelTurn
from sandbox_agent.models.scripted import Step
from sandbox_agent.run.budget import BudgetTracker
from talking import FINAL, Watch, shell, talk

CENTS = TokenUsage(input=90, output=10, cost_usd=0.1)
UNPRICED = TokenUsage(input=90, output=10)
UNCOUNTED = TokenUsage(cost_usd=0.1)


class Costly(Model):
    """Follows steps, as a scripted model does, and says what each answer used up."""

    name = "costly"

    def __init__(self, *steps: Step, each: TokenUsage | None = CENTS) -> None:
        self.turns = [step.turn for step in steps]
        self.each = each

    async def complete(self, history: Any, tools: Any, token: Any, on_delta: Any) -> ModelTurn:
        turn = self.turns[history.answers]
        return ModelTurn(turn.text, turn.calls, turn.final, usage=self.each)


STEPS = (*(shell(f"echo x >> {name}") for name in "abcd"), FINAL)


def lines(folder: Path) -> list[str]:
    """Which of the steps' commands have run."""
    return sorted(path.name for path in (folder / "work").iterdir())


def ran(folder: Path, watch: Watch, model: Model, **budgets: Any) -> tuple[Conversation, RunResult]:
    with talk(folder, watch, model=model, budgets=Budgets(**budgets)) as conv:
        return conv, conv.run()


@pytest.mark.parametrize(
    ("budgets", "reason"),
    [
        ({"tokens": 200}, "the budget of 200 tokens is spent: 200 were used"),
        ({"tokens": 101}, "the budget of 101 tokens is spent: 200 were used"),
        ({"cost_usd": 0.2}, "the budget of $0.2 is spent: $0.2 were used"),
        ({"cost_usd": 0.15}, "the budget of $0.15 is spent: $0.2 were used"),
    ],
)
def test_the_answer_that_crosses_a_budget_is_the_last_and_its_calls_are_made(
    tmp_path: Path, watch: Watch, budgets: dict[str, Any], reason: str
) -> None:
    conv, result = ran(tmp_path, watch, Costly(*STEPS), **budgets)
    assert (result.status, result.exit_code, result.reason) == (Status.BUDGET, 3, reason)
    assert lines(tmp_path) == ["a", "b"]
    assert {end.outcome for end in talking.ends(conv).values()} == {"ok"}
    usage = read_record(conv.run_dir).usage
    assert (usage.requests, usage.calls, usage.tokens, usage.cost_usd) == (2, 2, 200, 0.2)
    end = conv.events[-1]
    assert isinstance(end, SegmentEnded)
    assert end.usage == TokenUsage(input=180, output=20, cost_usd=0.2)


def test_a_last_answer_that_crosses_a_budget_is_still_the_end(tmp_path: Path, watch: Watch) -> None:
    _, result = ran(tmp_path, watch, Costly(FINAL), tokens=1, cost_usd=0.01)
    assert (result.status, result.message) == (Status.DONE, "Done.")
    assert result.record.usage.tokens == 100


def test_every_segment_has_its_own_budgets_and_they_can_be_raised(
    tmp_path: Path, watch: Watch
) -> None:
    conv, result = ran(tmp_path, watch, Costly(*STEPS), tokens=100, cost_usd=5.0)
    assert (result.status, lines(tmp_path)) == (Status.BUDGET, ["a"])
    with Conversation.resume(conv.run_dir, model=Costly(*STEPS)) as again:
        assert again.run().status is Status.BUDGET
        assert lines(tmp_path) == ["a", "b"]
    with Conversation.resume(
        conv.run_dir, model=Costly(*STEPS), budgets={"tokens": 1000}
    ) as raised:
        result = raised.run()
        (*_, segment) = (e for e in raised.events if isinstance(e, SegmentStarted))
    assert (result.status, lines(tmp_path)) == (Status.DONE, ["a", "b", "c", "d"])
    assert segment.settings.task["budgets"] == {
        "turns": None, "time": None, "tokens": 1000, "cost_usd": 5.0, "repeats": 5
    }  # fmt: skip
    assert result.record.usage.tokens == 300


def test_an_answer_without_usage_spends_nothing(tmp_path: Path, watch: Watch) -> None:
    conv, result = ran(tmp_path, watch, Costly(*STEPS, each=None), tokens=1, cost_usd=0.01)
    assert result.status is Status.DONE
    usage = result.record.usage
    assert (usage.requests, usage.tokens, usage.cost_usd) == (5, 0, None)
    end = conv.events[-1]
    assert isinstance(end, SegmentEnded)
    assert end.usage is None


@pytest.mark.parametrize("steps", [STEPS, (FINAL,)])
@pytest.mark.parametrize(
    ("budget", "each", "words"),
    [
        ({"cost_usd": 2.0}, UNPRICED, "budgets.cost_usd: what costly costs is not known"),
        ({"tokens": 10**6}, UNCOUNTED, "budgets.tokens: costly does not say how many tokens"),
    ],
)
def test_a_budget_that_cannot_be_enforced_ends_the_run_with_the_first_answer(
    tmp_path: Path,
    watch: Watch,
    budget: dict[str, Any],
    each: TokenUsage,
    words: str,
    steps: tuple[Step, ...],
) -> None:
    conv, result = ran(tmp_path, watch, Costly(*steps, each=each), **budget)
    assert (result.status, result.exit_code) == (Status.ERROR, 4)
    assert isinstance(result.error, ModelError)
    assert result.reason.startswith(words)
    assert "to null, and bound the run by budgets." in result.reason
    # The answer is kept, and nothing was done on its behalf.
    assert lines(tmp_path) == []
    assert sum(isinstance(event, TurnTaken) for event in conv.events) == 1
    assert {end.outcome for end in talking.ends(conv).values()} <= {"skipped"}
    assert not conv.cancel_call("call_1_1")
    model, none = Costly(*steps, each=each), dict.fromkeys(budget)
    with Conversation.resume(conv.run_dir, model=model, budgets=none) as again:
        assert again.run().status is Status.DONE


def test_ten_times_ten_cents_are_a_dollar() -> None:
    budget = BudgetTracker(Budgets(cost_usd=1.0), None)
    for number in range(1, 10):
        budget.count(ModelTurn("", usage=CENTS), number, "costly")
        assert budget.spent() is None
    budget.count(ModelTurn("", usage=CENTS), 10, "costly")
    assert budget.spent() == "the budget of $1 is spent: $1 were used"
    assert budget.used.cost_usd == 1.0


RECORDED = RecordedSegments(frozenset({5}), 5, Budgets(turns=5, tokens=500, repeats=3))


def counted(budgets: Budgets, turns: int) -> BudgetTracker:
    budget = BudgetTracker(budgets, RECORDED)
    for number in range(1, turns + 1):
        budget.count(ModelTurn("", usage=CENTS), number, "costly")
    return budget


def test_a_budget_from_the_recording_counts_the_turns_of_its_last_segment() -> None:
    assert counted(Budgets(turns=5), 9).spent() is None
    assert counted(Budgets(turns=5), 10).spent() == "the budget of 5 turns is spent"
    assert counted(Budgets(tokens=500), 9).spent() is None
    spent = "the budget of 500 tokens is spent: 500 were used"
    assert counted(Budgets(tokens=500), 10).spent() == spent
    # The record is about the whole run.
    assert counted(Budgets(tokens=500), 10).used.tokens == 1000


def test_a_budget_of_the_replay_counts_every_turn() -> None:
    assert counted(Budgets(turns=6, tokens=500), 5).spent() is None
    assert counted(Budgets(turns=6, tokens=500), 6).spent() == "the budget of 6 turns is spent"


def test_an_answer_that_came_too_late_counts_against_every_budget() -> None:
    budget = counted(Budgets(tokens=500), 9)
    before = budget.used.tokens
    budget.count_lost(CENTS)
    assert budget.spent() is not None
    assert budget.used.tokens == before + CENTS.total


@pytest.mark.parametrize(("budgets", "number"), [({"tokens": 500}, 6), ({"tokens": 400}, 1)])
def test_an_answer_that_tells_no_tokens_is_refused_once_it_counts(
    budgets: dict[str, int], number: int
) -> None:
    budget = BudgetTracker(Budgets(**budgets), RECORDED)
    for earlier in range(1, number):
        budget.count(ModelTurn("", usage=UNCOUNTED), earlier, "costly")
    with pytest.raises(ModelError, match="does not say how many tokens"):
        budget.count(ModelTurn("", usage=UNCOUNTED), number, "costly")


@pytest.mark.parametrize(("repeats", "last"), [(3, 8), (4, 4)])
def test_repetitions_count_like_the_other_budgets(repeats: int, last: int) -> None:
    budget = BudgetTracker(Budgets(repeats=repeats), RECORDED)
    told = [budget.repeats(number, "Hm.", (), (), 1) is not None for number in range(1, last + 1)]
    assert told == [False] * (last - 1) + [True]


def test_a_journal_without_the_newer_budgets_can_be_resumed(tmp_path: Path, watch: Watch) -> None:
    conv, _ = ran(tmp_path, watch, Costly(*STEPS), turns=1)
    path = conv.run_dir / JOURNAL_FILE
    old = []
    for line in path.read_bytes().splitlines():
        event = json.loads(line)
        for part in (event, (event.get("settings") or {}).get("task", {}).get("budgets", {})):
            for name in ("tokens", "cost_usd", "repeats", "usage"):
                part.pop(name, None)
        old.append(json.dumps(event) + "\n")
    path.write_text("".join(old))
    with Conversation.resume(conv.run_dir, model=Costly(*STEPS), budgets={"turns": 9}) as again:
        assert again.run().status is Status.DONE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokens", 0),
        ("tokens", "lots"),
        ("cost_usd", 0),
        ("cost_usd", float("nan")),
        ("cost_usd", float("inf")),
        ("cost_usd", "2"),
        ("repeats", 1),
        ("turns", 1.5),
    ],
)
def test_a_value_that_cannot_be_a_budget_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Budgets(**{name: value})
    assert caught.value.field == f"budgets.{name}"
    assert caught.value.hint
