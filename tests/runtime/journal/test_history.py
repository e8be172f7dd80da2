"""What a model reads of a call tells the truth about it."""

from __future__ import annotations

from typing import Any

import pytest
from sandbox_agent.journal.events import Ended
from sandbox_agent.journal.history import tool_text
from sandbox_agent_sandbox.outcome import Outcome, StartedState, Survivor

YES, NO, MAYBE = StartedState.YES, StartedState.NO, StartedState.MAYBE


def text(outcome: Outcome, started: StartedState, content: str = "out\n", **more: Any) -> str:
    return tool_text(
        Ended(
            at="",
            monotonic=0.0,
            call="c",
            outcome=outcome,
            started=started,
            content=content,
            **more,
        )
    )


def test_success_reads_as_the_output_alone() -> None:
    assert text(Outcome.OK, YES) == "out"
    assert text(Outcome.OK, YES, exit_status=0) == "out"


def test_a_call_without_output_says_so() -> None:
    assert text(Outcome.OK, YES, content="") == "[no output]"


def test_a_failed_command_names_its_status() -> None:
    assert text(Outcome.ERROR, YES, exit_status=3) == "out\n[exit status 3]"
    assert text(Outcome.ERROR, YES, exit_status=-11) == "out\n[ended by signal 11]"


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (Outcome.CANCELLED, "cancelled"),
        (Outcome.KILLED, "killed"),
        (Outcome.TIMEOUT, "timed out"),
        (Outcome.CRASHED, "crashed"),
        (Outcome.UNKNOWN, "unknown"),
    ],
)
def test_a_call_that_was_cut_short_says_that_it_had_begun(outcome: Outcome, word: str) -> None:
    said = text(outcome, YES)
    assert said.startswith("out\n[")
    assert word in said
    assert "had been started" in said
    assert "partial" in said


@pytest.mark.parametrize("outcome", [Outcome.SKIPPED, Outcome.DENIED])
def test_a_call_that_never_began_says_so(outcome: Outcome) -> None:
    assert "never started" in text(outcome, NO, content="")


def test_an_unknown_outcome_is_called_unknown() -> None:
    said = text(Outcome.UNKNOWN, MAYBE, content="")
    assert "may have been started" in said
    assert "had been" not in said


def test_survivors_are_named() -> None:
    said = text(Outcome.KILLED, YES, survivors=(Survivor(42, "dd"),))
    assert "could not be stopped: processes 42" in said
