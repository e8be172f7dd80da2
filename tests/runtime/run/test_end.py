"""How a run ends: what is said of it, beside its status and exit code.

Which status and code each error and each stop has: see `journal/test_status.py`.
"""

from __future__ import annotations

import re

import pytest
from sandbox_agent.errors import ModelError
from sandbox_agent.journal.events import Ended, ToolCall
from sandbox_agent.journal.state import CallState, Phase, RunState
from sandbox_agent.journal.status import Status
from sandbox_agent.journal.usage import TokenUsage
from sandbox_agent.models import ModelTurn
from sandbox_agent.run.end import End, Unmade, cut_off, end_by_error, end_by_stop, with_survivors
from sandbox_agent_ipc.cancel_reason import CancelReason
from sandbox_agent_sandbox.outcome import Outcome, StartedState, Survivor


@pytest.mark.parametrize("status", [Status.DONE, Status.FAILED, Status.INTERRUPTED])
def test_where_all_was_stopped_an_end_stays_as_it_is(status: Status) -> None:
    end = End(status, "so", 5)
    assert with_survivors(end, ()) is end


def test_survivors_leave_a_failure_what_it_was() -> None:
    alive = (Survivor(4, "dd"), Survivor(5, "cp -r"))
    end = with_survivors(End(Status.BUDGET, "the budget of 2 turns is spent"), alive)
    assert (end.status, end.code) == (Status.BUDGET, 7)
    assert end.reason == "the budget of 2 turns is spent; could not be stopped: 4 (dd); 5 (cp -r)"


def test_an_error_is_kept_and_an_error_without_words_is_named() -> None:
    error = ModelError("the provider is down")
    assert end_by_error(error) == End(Status.ERROR, "the provider is down", 4, error)
    assert end_by_error(KeyError()).reason == "KeyError()"


def test_a_stop_is_explained_by_its_cause_or_else_by_its_reason() -> None:
    assert end_by_stop(CancelReason.INTERRUPT, "", None, None).reason == "interrupt"
    assert end_by_stop(CancelReason.INTERRUPT, "SIGTERM", None, None).reason == "SIGTERM"
    error = ModelError("the provider is down")
    end = end_by_stop(CancelReason.FAILED, "", None, error)
    assert (end.reason, end.code, end.error) == ("the provider is down", 4, error)
    end = end_by_stop(CancelReason.FAILED, "the disk is full", None, error)
    assert (end.reason, end.code, end.error) == ("the disk is full", 4, error)
    assert end_by_stop(CancelReason.FAILED, "a bug", None, None) == End(Status.ERROR, "a bug")


@pytest.mark.parametrize(
    ("turn", "tokens", "text"),
    [
        (ModelTurn("Now I", usage=TokenUsage(input=9, output=64)), True, "is incomplete"),
        (ModelTurn(" \n", usage=TokenUsage(input=9, output=64)), True, "no text at all"),
        (ModelTurn("Now I", usage=TokenUsage(input=9)), False, "is incomplete"),
        (ModelTurn(""), False, "no text at all"),
    ],
)
def test_a_cut_off_answer_is_a_failure_that_names_the_remedy(
    turn: ModelTurn, tokens: bool, text: str
) -> None:
    end = cut_off(turn)
    assert (end.status, end.code) == (Status.FAILED, 1)
    assert re.findall(r"after \d+ tokens", end.reason) == ["after 64 tokens"] * tokens
    assert text in end.reason
    assert "model.params.max_tokens" in end.reason


def turn_of(*ends: bool | None, text: str = "ls") -> tuple[tuple[ToolCall, ...], RunState]:
    """Calls, all alike, and a state in which each was made, was not, or was skipped (None)."""
    calls = tuple(ToolCall(f"call_1_{n}", "shell", {"command": text}) for n in range(len(ends)))
    state = RunState()
    for call, made in zip(calls, ends, strict=True):
        ended = Ended(
            at="",
            monotonic=0,
            call=call.id,
            outcome=Outcome.OK if made else Outcome.SKIPPED if made is None else Outcome.CRASHED,
            started=StartedState.YES if made else StartedState.NO,
            detail="" if made else "no more\nprocesses",
            made=made is not False,
        )
        state.calls[call.id] = CallState(call.id, call.tool, Phase.ENDED, brief=ended)
    return calls, state


def test_a_run_whose_calls_were_all_made_ends_as_it_would() -> None:
    unmade = Unmade()
    unmade.count(*turn_of(True, True))
    assert unmade.end() is None


def test_a_call_that_could_not_be_made_ends_the_run_with_5_and_its_reason() -> None:
    unmade = Unmade()
    unmade.count(*turn_of(False))
    unmade.count(*turn_of(True, text="another"))
    unmade.count(*turn_of(None))  # asked for again, and skipped: still not made
    end = unmade.end()
    assert end is not None
    assert (end.status, end.code) == (Status.ERROR, 5)
    assert end.reason == "the sandbox could not make call_1_0, shell: no more processes"


def test_a_call_that_is_repeated_and_made_counts_no_more() -> None:
    unmade = Unmade()
    unmade.count(*turn_of(False))
    unmade.count(*turn_of(False, text="another"))
    unmade.count(*turn_of(True))
    end = unmade.end()
    assert end is not None, "another was not repeated"
    assert "more" not in end.reason.split(":")[0]
    unmade.count(*turn_of(True, text="another"))
    assert unmade.end() is None
