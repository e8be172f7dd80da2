"""The fold: a journal's events say one thing, and impossible ones are refused."""

from __future__ import annotations

import pytest
from sandbox_agent.errors import JournalError
from sandbox_agent.events import (
    AnyEvent,
    Asked,
    Dispatching,
    Ended,
    SegmentEnded,
    Started,
    TurnTaken,
    UserText,
    Verified,
)
from sandbox_agent.fold import Fold, Phase, fold
from sandbox_agent.history import AssistantMessage, Message, ToolMessage, UserMessage
from sandbox_agent_sandbox.outcome import Outcome, StartedState

NOW = {"at": "2026-01-01T00:00:00.000Z", "t": 1.0}
TURN = TurnTaken(
    turn=1,
    text="look",
    final=False,
    calls=(Asked("a", "shell", {"command": "x"}), Asked("b", "shell", {"command": "y"})),
    **NOW,
)


def ended(call: str, outcome: Outcome = Outcome.OK) -> Ended:
    return Ended(call=call, outcome=outcome, started=StartedState.YES, content=f"{call}!", **NOW)


def test_results_follow_their_turn_in_the_order_of_the_calls() -> None:
    state = fold((UserText(text="go", **NOW), TURN, ended("b"), ended("a")))
    shape = [type(message) for message in state.history()]
    assert shape == [UserMessage, AssistantMessage, ToolMessage, ToolMessage]
    assert [m.call_id for m in state.history() if isinstance(m, ToolMessage)] == ["a", "b"]


def test_what_the_user_says_during_a_turn_comes_after_its_results() -> None:
    state = fold((TURN, ended("a"), UserText(text="hurry", **NOW), ended("b")))
    assert state.history()[-1] == UserMessage("hurry")
    assert state.unanswered()


@pytest.mark.parametrize(
    ("events", "outcome", "started"),
    [
        ((), Outcome.SKIPPED, StartedState.NO),
        ((Dispatching(call="a", tool="shell", **NOW),), Outcome.UNKNOWN, StartedState.MAYBE),
        (
            (Dispatching(call="a", tool="shell", **NOW), Started(call="a", **NOW)),
            Outcome.UNKNOWN,
            StartedState.YES,
        ),
    ],
)
def test_after_a_crash_the_model_is_told_what_was_in_flight(
    events: tuple[AnyEvent, ...], outcome: Outcome, started: StartedState
) -> None:
    state = fold((TURN, *events))
    result = next(m for m in state.history() if isinstance(m, ToolMessage))
    assert (result.outcome, result.started) == (outcome, started)
    assert [call.id for call in state.open_calls()] == ["a", "b"]


def test_every_prefix_is_a_valid_history() -> None:
    events: tuple[AnyEvent, ...] = (
        UserText(text="go", **NOW),
        TURN,
        Dispatching(call="a", tool="shell", **NOW),
        Dispatching(call="b", tool="shell", **NOW),
        Started(call="b", **NOW),
        ended("b"),
        Started(call="a", **NOW),
        ended("a"),
        TurnTaken(turn=2, text="done", final=True, **NOW),
    )
    for length in range(len(events) + 1):
        assert_valid(fold(events[:length]).history())


def assert_valid(messages: list[Message]) -> None:
    due: list[str] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            assert message.call_id == due.pop(0)
        else:
            assert not due
            due = [c.id for c in message.calls] if isinstance(message, AssistantMessage) else []
    assert not due


@pytest.mark.parametrize(
    "events",
    [
        (ended("a"), ended("a")),
        (ended("a"), Started(call="a", **NOW)),
        (Started(call="a", **NOW), Dispatching(call="a", tool="shell", **NOW)),
        (ended("nobody"),),
        (TURN,),
    ],
)
def test_what_cannot_follow_is_refused(events: tuple[AnyEvent, ...]) -> None:
    with pytest.raises(JournalError, match="the journal is damaged"):
        fold((TURN, *events))


def test_verify_commands_are_calls_that_no_model_sees() -> None:
    state = fold(
        (
            TurnTaken(turn=1, text="done", final=True, **NOW),
            Dispatching(call="verify_1_1", tool="shell", command="pytest", **NOW),
            ended("verify_1_1"),
            Verified(command="pytest", call="verify_1_1", passed=True, **NOW),
        )
    )
    assert state.calls["verify_1_1"].verify
    assert state.calls["verify_1_1"].phase is Phase.ENDED
    assert [type(message) for message in state.history()] == [AssistantMessage]
    assert [verified.passed for verified in state.verified] == [True]


def test_a_segment_that_ended_is_known_to_have() -> None:
    state = Fold()
    assert state.segment_end is None
    end = SegmentEnded(
        n=1, status="done", exit_code=0, reason="", requests=1, calls=0, seconds=1.0, **NOW
    )
    state.apply(end)
    assert state.segment_end == end
