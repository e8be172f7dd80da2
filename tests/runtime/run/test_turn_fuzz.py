"""Turns of a model made up at random, in real runs: no bug, no exception, the right exit code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from odd_answers import ARGUMENTS, JUNK, NAMES, TEXTS
from sandbox_agent.journal.events import LENGTH, PAUSED, REFUSED, Ended
from sandbox_agent.journal.history import Message, answers_in
from sandbox_agent.journal.recording import read_recording
from sandbox_agent.models import Model, ModelCall, ModelTurn, OnDelta
from sandbox_agent_ipc.messages import ToolSpec
from sandbox_agent_ipc.token import CancelToken
from talking import Watch, talk

FINISHES = ["stop", "tool_calls", LENGTH, REFUSED, PAUSED, "", "odd", "\ud83d"]
WRONG: list[Any] = [None, 7, "text", object(), ModelTurn, [], ModelTurn(7, final=True)]  # type: ignore[arg-type]


def odd_turn(random: Random) -> Any:
    if random.random() < 0.02:
        return random.choice(WRONG)
    calls = tuple(
        ModelCall(random.choice([*NAMES, "\ud83d", "shell"]), odd_arguments(random))
        for _ in range(random.choice([0, 0, 1, 1, 2, 9]))
    )
    return ModelTurn(
        text=random.choice([*TEXTS, "half \ud83d"]),
        calls=calls,
        final=random.random() < 0.1,
        reasoning=random.choice(["", "\udfff"]),
        finish_reason=random.choice(FINISHES),
        finish_word=random.choice(["", "refusal", "model_length", "\x1b[2J", "w" * 9999]),
    )


def odd_arguments(random: Random) -> Any:
    if random.random() < 0.5:
        return random.choice(ARGUMENTS)
    keys = ["command", "timeout", "stdin", "more", "\ud83d", ""]
    values = [*JUNK, 10**400, float("nan"), -float("inf"), "true", {"a": object()}, b"\xff"]
    return {random.choice(keys): random.choice(values) for _ in range(random.randrange(4))}


class Odd(Model):
    name = "odd"

    def __init__(self, turns: Sequence[Any]) -> None:
        self.turns = turns
        self.taken = 0

    async def complete(
        self,
        history: Sequence[Message],
        tools: Sequence[ToolSpec],
        token: CancelToken,
        on_delta: OnDelta,
    ) -> ModelTurn:
        assert answers_in(history) <= self.taken
        self.taken += 1
        turn: ModelTurn = self.turns[self.taken - 1]
        return turn


@pytest.mark.parametrize("cases", [150, 2000], ids=["sample", "whole"])
def test_any_turn_ends_in_a_result(tmp_path: Path, watch: Watch, cases: int) -> None:
    random = Random("turns")
    turns = [odd_turn(random) for _ in range(cases)]
    model = Odd([*turns, ModelTurn("All is done.", final=True)])
    budgets = {"turns": None, "repeats": None}
    codes: dict[int, int] = {}
    with talk(tmp_path, watch, model=model, budgets=budgets, parallel=16) as conversation:
        while model.taken <= cases:
            conversation.send_message("go on")
            result = conversation.run()
            codes[result.exit_code] = codes.get(result.exit_code, 0) + 1
            assert "a bug" not in result.reason, result
        assert result.message == "All is done."
        folder = result.run_dir
        made = [event for event in conversation.events if isinstance(event, Ended)]
    assert set(codes) == {0, 1, 4}, codes
    assert made
    assert all(len(one.content) < 40_000 for one in made)
    state = read_recording(folder).state  # what was written can be read
    assert state.open_calls() == []
