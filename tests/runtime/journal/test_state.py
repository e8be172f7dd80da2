"""The fold: a journal's events say one thing, and impossible ones are refused."""

from __future__ import annotations

import time

import msgspec
import pytest
from sandbox_agent.errors import JournalError
from sandbox_agent.journal.events import (
    AnyEvent,
    Dispatching,
    Ended,
    SegmentEnded,
    Started,
    ToolCall,
    TurnTaken,
    UserText,
    Verified,
)
from sandbox_agent.journal.history import AssistantMessage, Message, ToolMessage, UserMessage
from sandbox_agent.journal.state import Phase, RunState, state_of
from sandbox_agent_sandbox.outcome import Outcome, StartedState

NOW = {"at": "2026-01-01T00:00:00.000Z", "monotonic": 1.0}
TURN = TurnTaken(
    turn=1,
    text="look",
    final=False,
    calls=(ToolCall("a", "shell", {"command": "x"}), ToolCall("b", "shell", {"command": "y"})),
    **NOW,
)


SEGMENT_END = SegmentEnded(
    number=1, status="well", exit_code=0, reason="", requests=1, calls=1, seconds=1.0, **NOW
)


def ended(call: str, outcome: Outcome = Outcome.OK) -> Ended:
    return Ended(call=call, outcome=outcome, started=StartedState.YES, content=f"{call}!", **NOW)


def test_results_follow_their_turn_in_the_order_of_the_calls() -> None:
    state = state_of((UserText(text="go", **NOW), TURN, ended("b"), ended("a")))
    shape = [type(message) for message in state.history()]
    assert shape == [UserMessage, AssistantMessage, ToolMessage, ToolMessage]
    assert [m.call_id for m in state.history() if isinstance(m, ToolMessage)] == ["a", "b"]


def test_what_the_user_says_during_a_turn_comes_after_its_results() -> None:
    state = state_of((TURN, ended("a"), UserText(text="hurry", **NOW), ended("b")))
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
    state = state_of((TURN, *events))
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
        assert_valid(state_of(events[:length]).history())


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
        (msgspec.structs.replace(TURN, turn=2),),  # with the calls of the first
        (Verified(command="x", call="nobody", passed=True, **NOW),),
        (SEGMENT_END,),
    ],
)
def test_an_event_that_cannot_follow_is_refused(events: tuple[AnyEvent, ...]) -> None:
    with pytest.raises(JournalError, match="the journal is damaged"):
        state_of((TURN, *events))


def test_verify_commands_are_calls_that_no_model_sees() -> None:
    state = state_of(
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


def test_the_state_knows_how_the_last_segment_ended() -> None:
    state = RunState()
    assert state.segment_end is None
    end = SegmentEnded(
        number=1, status="done", exit_code=0, reason="", requests=1, calls=0, seconds=1.0, **NOW
    )
    state.apply(end)
    assert state.segment_end == end


# --- histories, while the conversation goes on ----------------------------------------------


def test_a_history_stays_as_it_was_taken() -> None:
    state = state_of((UserText(text="go", **NOW), TURN, ended("a")))
    open_one = state.history()
    copy = list(open_one)
    state.apply(ended("b"))
    whole = state.history()
    state.apply(UserText(text="more", **NOW))
    state.apply(TurnTaken(turn=2, text="done", final=True, **NOW))
    assert list(open_one) == copy
    assert open_one[-1].outcome is Outcome.SKIPPED  # type: ignore[union-attr]
    assert [len(whole), whole.answers, len(state.history()), state.history().answers] == [
        *(4, 1),
        *(6, 2),
    ]
    assert list(whole) == list(state.history())[:4]


def test_a_history_is_a_sequence_like_any() -> None:
    state = state_of((UserText(text="go", **NOW), TURN, ended("a"), ended("b")))
    history, plain = state.history(), list(state.history())
    state.apply(UserText(text="beyond its end", **NOW))
    assert [history[n] for n in range(-4, 4)] == plain * 2
    for part in (slice(1, 3), slice(None, None, -1), slice(-2, None), slice(2, 99)):
        assert history[part] == plain[part]
    for place in (4, -5):
        with pytest.raises(IndexError):
            history[place]
    assert list(reversed(history)) == plain[::-1]
    assert plain[-1] in history


def test_a_history_starts_with_every_earlier_one_of_its_conversation() -> None:
    state, other = state_of((UserText(text="go", **NOW),)), state_of((UserText(text="go", **NOW),))
    first = state.history()
    state.apply(TurnTaken(turn=1, text="done", final=True, **NOW))
    assert state.history().starts_with(first)
    assert not first.starts_with(state.history())
    assert not state.history().starts_with(other.history())


def test_a_turn_costs_the_same_after_many_others() -> None:
    def thousand_times(state: RunState) -> float:
        begun = time.perf_counter()
        for _ in range(1000):
            state.history(), state.unanswered(), state.final_words()
        return time.perf_counter() - begun

    def after(turns: int) -> float:
        state = RunState()
        for turn in range(1, turns + 1):
            call = ToolCall(f"call_{turn}_1", "shell", {"command": "x"})
            state.apply(TurnTaken(turn=turn, text="", final=False, calls=(call,), **NOW))
            state.apply(ended(call.id))
        return min(thousand_times(state) for _ in range(5))

    # To go through them all would take a thousand times as long.
    assert after(10_000) < 10 * after(10)
