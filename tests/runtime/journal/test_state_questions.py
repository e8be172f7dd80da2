"""What a process that reads a journal learns of the run: settings, status, turns, final words."""

from __future__ import annotations

from typing import Any

import pytest
from sandbox_agent.journal.events import (
    AnyEvent,
    Dispatching,
    Ended,
    JournalOpened,
    RecordedSettings,
    SegmentEnded,
    SegmentStarted,
    ToolCall,
    TurnTaken,
    UserText,
    Verified,
)
from sandbox_agent.journal.state import RunState, state_of
from sandbox_agent.journal.status import Status
from sandbox_agent_sandbox.outcome import Outcome, StartedState

NOW: dict[str, Any] = {"at": "2026-01-01T00:00:00.000Z", "monotonic": 1.0}


def settings(model: str) -> RecordedSettings:
    return RecordedSettings(model, {}, {"parallel": 8})


def opened(model: str | None) -> JournalOpened:
    given = None if model is None else settings(model)
    return JournalOpened(version=2, run="r", settings=given, **NOW)


def segment(number: int, model: str) -> SegmentStarted:
    given = settings(model)
    return SegmentStarted(number=number, pid=1, settings=given, tools=(), plan=None, **NOW)


def segment_end(number: int, status: str) -> SegmentEnded:
    counts: dict[str, Any] = {"requests": 1, "calls": 0, "seconds": 1.0}
    return SegmentEnded(number=number, status=status, exit_code=0, reason="", **counts, **NOW)


def turn(number: int, text: str, *calls: str, final: bool = False) -> TurnTaken:
    made = tuple(ToolCall(call, "shell", {}) for call in calls)
    return TurnTaken(turn=number, text=text, final=final, calls=made, **NOW)


def said(text: str) -> UserText:
    return UserText(text=text, **NOW)


def verify(call: str) -> tuple[AnyEvent, ...]:
    return (
        Dispatching(call=call, tool="shell", command="pytest", **NOW),
        Ended(call=call, outcome=Outcome.OK, started=StartedState.YES, **NOW),
        Verified(command="pytest", call=call, passed=True, **NOW),
    )


def test_turns_are_counted_and_each_has_its_model() -> None:
    first = (segment(1, "small"), said("go"), turn(1, "a"), turn(2, "b"), segment_end(1, "budget"))
    state = state_of((opened("small"), *first, segment(2, "large"), said("on"), turn(3, "c")))
    assert (state.turns, state.user_messages) == (3, 2)
    assert state.models == {1: "small", 2: "small", 3: "large"}
    assert [type(one) for one in state.conversation] == [
        UserText, TurnTaken, TurnTaken, UserText, TurnTaken,
    ]  # fmt: skip
    assert state.opened == opened("small")


def test_the_settings_are_those_of_the_last_segment_that_began() -> None:
    assert RunState().settings() is None
    assert state_of((opened(None),)).settings() is None
    assert state_of((opened("small"),)).settings() == settings("small")
    began = (opened("small"), segment(1, "small"), segment_end(1, "failed"), segment(2, "large"))
    assert state_of(began).settings() == settings("large")


def test_the_status_is_the_last_segments_and_an_error_where_the_agent_died_in_it() -> None:
    assert RunState().status() is Status.IDLE
    assert state_of((opened("m"),)).status() is Status.IDLE
    began = (opened("m"), segment(1, "m"))
    assert state_of(began).status() is Status.ERROR
    assert state_of((*began, segment_end(1, "budget"))).status() is Status.BUDGET
    assert state_of((*began, segment_end(1, "budget"), segment(2, "m"))).status() is Status.ERROR


def test_a_message_is_unanswered_until_the_model_takes_a_turn() -> None:
    assert not RunState().unanswered()
    assert state_of((said("go"),)).unanswered()
    assert not state_of((said("go"), turn(1, "well"))).unanswered()
    assert state_of((said("go"), turn(1, "well"), said("and?"))).unanswered()


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ((), None),
        ((turn(1, "Done.", final=True),), "Done."),
        ((turn(1, "Not yet."),), None),
        ((turn(1, "Done.", "a", final=True),), None),  # it called something: not its end
        ((turn(1, "Done.", final=True), said("no")), None),
        ((turn(1, "Done.", final=True), segment_end(1, "interrupted")), "Done."),
        ((turn(1, "Done.", final=True), segment_end(1, "done")), None),
        ((turn(1, "Done.", final=True), segment_end(1, "failed")), None),
    ],
)
def test_final_words_wait_for_their_verdict(
    events: tuple[AnyEvent, ...], words: str | None
) -> None:
    assert state_of((segment(1, "m"), *events)).final_words() == words


def test_what_verify_found_belongs_to_its_segment() -> None:
    first = (segment(1, "m"), *verify("v1"), segment_end(1, "done"))
    state = state_of(first)
    assert [one.call for one in state.verified] == ["v1"]
    assert state.calls["v1"].verify
    assert state_of((*first, segment(2, "m"))).verified == []


def test_calls_of_a_model_are_no_calls_of_verify() -> None:
    state = state_of((turn(1, "look", "a", "b"),))
    assert [(call.id, call.verify) for call in state.open_calls()] == [("a", False), ("b", False)]
    assert [message.call_id for message in state.results(state.conversation[0].calls)] == ["a", "b"]
