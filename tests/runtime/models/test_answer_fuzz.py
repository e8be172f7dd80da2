"""Answers made up at random, through the real litellm: each becomes what it may become, and none an
exception, a standstill, or a success that it is not."""

from __future__ import annotations

from random import Random

import pytest
from asker import Asked, Asker
from odd_answers import GEMINI, GPT, MISTRAL, Odd, odd_answer, serving
from sandbox_agent.models.provider import _turn
from sandbox_agent.run.end import end_by_answer
from sandbox_agent_ipc.model_messages import Answer, Failure

AT_ONCE = 40
PERIOD = 25
"""Seconds that a request may take. One that hangs is a timeout, which no answer here may become."""


def begin(asker: Asker, odd: Odd, base: str, number: int) -> Asked:
    return asker.begin(
        odd.model,
        api_base=base + ("/v1" if odd.model in (GPT, MISTRAL) else ""),
        stream=odd.stream,
        timeout=PERIOD,
        params={"extra_headers": {"x-case": str(number)}},
    )


def became(result: Answer | Failure | None) -> str:
    """What the run would make of it."""
    if isinstance(result, Failure):
        assert result.text.isprintable(), result
        assert 0 < len(result.text) <= 2000
        assert "bug" not in result.text, result
        assert "Traceback" not in result.text
        assert "silent" not in result.text, "it hung"
        return "failure"
    assert isinstance(result, Answer)
    turn = _turn(result)
    end = end_by_answer(turn, was_cut_before=False)
    if end is not None:
        assert end.code == 1
        return {"content_filter": "refused", "length": "cut"}[turn.finish_reason]
    if turn.calls:
        return "cut" if turn.finish_reason == "length" else "calls"
    if turn.final:
        return "final"
    return "paused" if turn.finish_reason == "pause_turn" else "empty"


@pytest.mark.parametrize("seed", range(4))
def test_any_answer_becomes_only_what_it_may_become(asker: Asker, seed: int) -> None:
    """Two thousand in all."""
    asker.set_environ(MISTRAL_API_KEY="ms-1234567890abcd")
    random = Random(f"answers {seed}")
    answers = [odd_answer(random) for _ in range(500)]
    wrong = []
    with serving(answers) as base:
        for first in range(0, len(answers), AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, len(answers)))
            asked = {n: begin(asker, answers[n], base, n) for n in numbers}
            for number, one in asked.items():
                end, odd = asker.end(one), answers[number]
                assert end.raised == "", (number, odd)
                if (what := became(end.result)) not in odd.allowed:
                    wrong.append((number, what, sorted(odd.allowed), odd, end.result))
    assert not wrong, (len(wrong), wrong[0])
    assert {odd.model for odd in answers} >= {GPT, GEMINI}
