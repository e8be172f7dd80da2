"""How one answer of a model ends a run, or lets it go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sandbox_agent.errors import ModelError
from sandbox_agent.journal.events import LENGTH, PAUSED, REFUSED, Verified
from sandbox_agent.journal.history import Message, answers_in
from sandbox_agent.journal.result import RunResult
from sandbox_agent.journal.status import Status
from sandbox_agent.models import Model, ModelCall, ModelTurn, OnDelta
from sandbox_agent.models.replay import load_replay
from sandbox_agent_ipc.messages import ToolSpec
from sandbox_agent_ipc.token import CancelToken
from sandbox_agent_sandbox.outcome import Outcome, StartedState
from talking import Watch, ends, talk

DONE = ModelTurn("All is done.", final=True, finish_reason="stop")


class Says(Model):
    """Gives these answers, in turn."""

    name = "says"

    def __init__(self, *turns: ModelTurn) -> None:
        self.turns = turns
        self.histories: list[Sequence[Message]] = []

    async def complete(
        self,
        history: Sequence[Message],
        tools: Sequence[ToolSpec],
        token: CancelToken,
        on_delta: OnDelta,
    ) -> ModelTurn:
        self.histories.append(history)
        return self.turns[answers_in(history)]


def shell(*commands: str, finish: str = "tool_calls") -> ModelTurn:
    calls = tuple(ModelCall("shell", {"command": command}) for command in commands)
    return ModelTurn("", calls, finish_reason=finish)


def run(folder: Path, watch: Watch, *turns: ModelTurn, **more: Any) -> tuple[RunResult, Any]:
    """The result of a run with these answers, and the end of each call."""
    with talk(folder, watch, model=Says(*turns), **more) as conversation:
        conversation.send_message("go")
        return conversation.run(), ends(conversation)


# --- pauses -----------------------------------------------------------------------------------


def paused(text: str) -> ModelTurn:
    return ModelTurn(text, finish_reason=PAUSED, finish_word="pause_turn")


def test_a_paused_answer_is_continued_and_nothing_of_it_is_lost(
    tmp_path: Path, watch: Watch
) -> None:
    said = paused("I look it up."), paused("It is long.\n"), paused(" "), DONE
    result, _ = run(tmp_path, watch, *said, verify=["true"])
    assert (result.status, result.exit_code) == (Status.DONE, 0)
    assert result.message == "I look it up.\nIt is long.\nAll is done."


def test_what_the_user_says_meanwhile_begins_a_new_answer(tmp_path: Path, watch: Watch) -> None:
    with talk(tmp_path, watch, model=Says(paused("Half"), DONE)) as conversation:
        watch.also = lambda event: (
            conversation.send_message("stop") if getattr(event, "text", "") == "Half" else None
        )
        conversation.send_message("go")
        assert conversation.run().message == "All is done."


def test_an_endless_pause_is_ended_by_a_budget(tmp_path: Path, watch: Watch) -> None:
    said = [paused(f"Part {number}.") for number in range(9)]
    result, _ = run(tmp_path, watch, *said, budgets={"turns": 3})
    assert (result.status, result.exit_code) == (Status.BUDGET, 3)


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        (ModelTurn("I will not.", finish_reason=REFUSED, finish_word="refusal"),
         "the model refused: I will not."),
        (ModelTurn("", finish_reason=REFUSED, finish_word="refusal"), "the model refused"),
        (ModelTurn("", finish_reason=REFUSED, finish_word="SAFETY"),
         "the provider's filter stopped the model's answer (SAFETY)"),
        (ModelTurn("Half\nof ", finish_reason=REFUSED, finish_word="content_filter"),
         "the provider's filter stopped the model's answer (content_filter); before that it said: "
         "Half of"),
    ],
)  # fmt: skip
def test_a_refusal_is_a_failure_with_its_own_reason(
    tmp_path: Path, watch: Watch, turn: ModelTurn, reason: str
) -> None:
    result, _ = run(tmp_path, watch, turn, verify=["true"])
    assert (result.status, result.exit_code, result.reason) == (Status.FAILED, 1, reason)
    assert result.message is None
    assert not any(isinstance(event, Verified) for event in watch.events)


def test_a_long_refusal_is_cut_in_the_reason_and_whole_in_the_journal(
    tmp_path: Path, watch: Watch
) -> None:
    result, _ = run(tmp_path, watch, ModelTurn("no " * 9999, finish_reason=REFUSED))
    assert len(result.reason) < 700
    assert any(getattr(event, "text", "") == "no " * 9999 for event in watch.events)


def test_calls_of_a_refused_answer_are_not_made(tmp_path: Path, watch: Watch) -> None:
    result, ended = run(tmp_path, watch, shell("touch a", "touch b", finish=REFUSED))
    assert result.exit_code == 1
    assert {(one.outcome, one.started) for one in ended.values()} == {
        (Outcome.ERROR, StartedState.NO)
    }
    assert not list((tmp_path / "work").iterdir())


# --- cuts -------------------------------------------------------------------------------------


def test_a_cut_call_is_not_made_and_those_before_it_are(tmp_path: Path, watch: Watch) -> None:
    model = Says(shell("touch a", "touch b", finish=LENGTH), DONE)
    with talk(tmp_path, watch, model=model) as conversation:
        conversation.send_message("go")
        result, ended = conversation.run(), ends(conversation)
    assert result.status is Status.DONE
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["a"]
    cut = ended["call_1_2"]
    assert (cut.outcome, cut.started) == (Outcome.ERROR, StartedState.NO)
    told = str(model.histories[1][-1])
    assert "max_tokens" in told
    assert "limit" in told


def test_a_call_cut_twice_in_a_row_ends_the_run(tmp_path: Path, watch: Watch) -> None:
    cut = shell("touch a", finish=LENGTH)
    result, ended = run(tmp_path, watch, cut, cut, DONE)
    assert (result.status, result.exit_code, len(ended)) == (Status.FAILED, 1, 2)
    assert "max_tokens" in result.reason
    assert "call is incomplete" in result.reason


def test_a_whole_call_between_two_cut_ones_lets_it_go_on(tmp_path: Path, watch: Watch) -> None:
    cut = shell("touch a", finish=LENGTH)
    result, _ = run(tmp_path, watch, cut, shell("true"), cut, shell("true", "true", finish=LENGTH),
                    cut, DONE)  # fmt: skip
    assert result.status is Status.DONE


def test_a_replay_does_not_make_a_cut_call_either(tmp_path: Path, watch: Watch) -> None:
    result, _ = run(tmp_path, watch, shell("touch a", finish=LENGTH), DONE)
    again = talk(tmp_path, Watch(), model=load_replay(result.run_dir, check=True))
    with again as conversation:
        conversation.send_message("go")
        assert conversation.run().status is Status.DONE
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize("word", ["model_length", "model_context_window_exceeded"])
def test_a_full_window_is_told_apart_from_the_limit_of_one_answer(
    tmp_path: Path, watch: Watch, word: str
) -> None:
    turn = ModelTurn("Half", finish_reason=LENGTH, finish_word=word)
    result, _ = run(tmp_path, watch, turn)
    assert (result.status, result.exit_code) == (Status.FAILED, 1)
    assert word in result.reason
    assert "max_tokens" not in result.reason


# --- calls that cannot be made ------------------------------------------------------------------


HOSTILE: dict[str, ModelCall] = {
    "400 digits": ModelCall("shell", f'{{"command": "touch bad", "timeout": {"9" * 400}}}'),
    "400 digits, an object": ModelCall("shell", {"command": "touch bad", "timeout": 10**400}),
    "5,000 digits, an object": ModelCall("shell", {"command": "touch bad", "timeout": 10**5000}),
    "1e400": ModelCall("shell", '{"command": "touch bad", "timeout": 1e400}'),
    "NaN": ModelCall("shell", '{"command": "touch bad", "timeout": NaN}'),
    "NaN, an object": ModelCall("shell", {"command": "touch bad", "timeout": float("nan")}),
    "inf": ModelCall("shell", {"command": "touch bad", "timeout": float("inf")}),
    "-1": ModelCall("shell", {"command": "touch bad", "timeout": -1}),
    "0": ModelCall("shell", {"command": "touch bad", "timeout": 0}),
    "true": ModelCall("shell", {"command": "touch bad", "timeout": True}),
    "text": ModelCall("shell", {"command": "touch bad", "timeout": "10"}),
    "nested": ModelCall("shell", {"command": "touch bad", "timeout": {"a": [1]}}),
    "deep": ModelCall(
        "shell", '{"command": "touch bad", "x": ' + "[" * 10_000 + "]" * 10_000 + "}"
    ),
    "deep, an object": ModelCall("shell", {"command": [[[[["a"]]]]] * 3}),
    "half a character": ModelCall("shell", '{"command": "touch bad\\ud83d"}'),
    "half a character, raw": ModelCall("shell", {"command": "touch bad\ud83d"}),
    "40 MB": ModelCall("shell", {"command": "#" * (40 << 20)}),
    "no object": ModelCall("shell", "[]"),
    "an unknown tool": ModelCall("no such tool", {}),
    "a name without end": ModelCall("x" * 500_000, {}),
    "a name with controls": ModelCall("shell\0\x1b[2J\ud83d", {}),
    "no name": ModelCall("", {}),
}


@pytest.mark.parametrize("call", HOSTILE.values(), ids=HOSTILE)
def test_a_call_that_cannot_be_made_is_an_error_and_the_others_are_made(
    tmp_path: Path, watch: Watch, call: ModelCall
) -> None:
    good = ModelCall("shell", {"command": "touch good"})
    turn = ModelTurn("", (good, call, ModelCall("shell", '{"command":"touch fine"}')))
    result, ended = run(tmp_path, watch, turn, DONE)
    assert (result.status, result.exit_code) == (Status.DONE, 0), result.reason
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["fine", "good"]
    bad = ended["call_1_2"]
    assert bad.outcome is Outcome.ERROR
    assert bad.content
    assert len(bad.content) < 1000


def test_a_turn_of_5000_calls_gets_5000_ends(tmp_path: Path, watch: Watch) -> None:
    calls = tuple(ModelCall(f"tool {number}", {}) for number in range(5000))
    made = ModelCall("shell", {"command": "touch made"})
    result, ended = run(tmp_path, watch, ModelTurn("", (*calls, made)), DONE)
    assert (result.status, len(ended)) == (Status.DONE, 5001)
    assert (tmp_path / "work" / "made").exists()


# --- models of a program's own ------------------------------------------------------------------


NO_ANSWERS: dict[str, Any] = {
    "nothing": None,
    "a text": "Done.",
    "a number for the text": ModelTurn(5, final=True),  # type: ignore[arg-type]
    "no calls": ModelTurn("", None),  # type: ignore[arg-type]
    "a number for a name": ModelTurn("", (ModelCall(7, {}),)),  # type: ignore[arg-type]
    "no usage": ModelTurn("a", final=True, usage="much"),  # type: ignore[arg-type]
    "a state without a form": ModelTurn("a", final=True, provider_state={"a": object()}),
    "a state with half a character": ModelTurn("a", final=True, provider_state={"a": "\ud83d"}),
    "such a state of a call": ModelTurn("", (ModelCall("shell", {}, {"a": "\ud83d"}),)),
}


@pytest.mark.parametrize("turn", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_what_is_no_answer_is_the_models_fault(tmp_path: Path, watch: Watch, turn: Any) -> None:
    result, ended = run(tmp_path, watch, turn)
    assert (result.status, result.exit_code, ended) == (Status.ERROR, 4, {})
    assert result.reason.startswith("model says failed: ")


def test_halves_of_characters_are_replaced_wherever_a_model_says_them(
    tmp_path: Path, watch: Watch
) -> None:
    half = "a\ud83db"
    turn = ModelTurn(half, reasoning=half, finish_reason=REFUSED, finish_word=half)
    result, _ = run(tmp_path, watch, turn)
    assert result.reason == (
        "the provider's filter stopped the model's answer (a?b); before that it said: a?b"
    )


class Fails(Says):
    async def complete(self, *arguments: Any) -> ModelTurn:
        raise ModelError("half a \ud83d character")


def test_halves_of_characters_are_replaced_in_the_words_of_an_error(
    tmp_path: Path, watch: Watch
) -> None:
    with talk(tmp_path, watch, model=Fails()) as conversation:
        conversation.send_message("go")
        result = conversation.run()
    assert (result.exit_code, result.reason) == (4, "half a ? character")
