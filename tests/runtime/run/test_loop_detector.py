"""A model that repeats itself is stopped; a model that makes progress is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from sandbox_agent.conversation import Conversation
from sandbox_agent.journal.events import Ended, ToolCall, TurnTaken
from sandbox_agent.journal.history import ToolMessage
from sandbox_agent.journal.status import Status
from sandbox_agent.models import ModelTurn
from sandbox_agent.models.scripted import ScriptedModel, Step
from sandbox_agent.run.loop_detector import LoopDetector
from sandbox_agent_ipc.messages import Image
from sandbox_agent_sandbox.outcome import Outcome, StartedState
from talking import FINAL, Watch, shell, talk


def say(text: str) -> Step:
    return Step(ModelTurn(text))


def turn(*made: tuple[Any, str], outcome: Outcome = Outcome.OK) -> tuple[Any, Any]:
    """Calls of `shell` with arguments and what came of each."""
    asked, results = [], []
    for number, (arguments, content) in enumerate(made):
        asked.append(ToolCall(f"call_{id(made)}_{number}", "shell", arguments))
        results.append(ToolMessage(asked[-1].id, "shell", content, outcome, StartedState.YES))
    return asked, results


def test_the_fifth_equal_turn_in_a_row_fails_the_run(tmp_path: Path, watch: Watch) -> None:
    with talk(tmp_path, watch, *[shell("echo same", "echo too")] * 9) as conv:
        result = conv.run()
    assert (result.status, result.exit_code) == (Status.FAILED, 1)
    assert result.reason.startswith(
        "no progress: the model asked for the same calls (shell) and got the same results "
        "5 times in a row; "
    )
    assert "budgets.repeats" in result.reason
    assert sum(isinstance(event, TurnTaken) for event in conv.events) == 5
    ended = [event.outcome for event in conv.events if isinstance(event, Ended)]
    assert ended == [Outcome.OK] * 10


def test_results_that_differ_are_progress(tmp_path: Path, watch: Watch) -> None:
    # The same call, each time one line more: polling something that moves.
    steps = (*[shell("echo x >> log; cat log")] * 9, FINAL)
    with talk(tmp_path, watch, *steps) as conv:
        assert conv.run().status is Status.DONE


@pytest.mark.parametrize(("repeats", "status"), [(2, Status.FAILED), (None, Status.DONE)])
def test_the_task_sets_the_limit(
    tmp_path: Path, watch: Watch, repeats: int | None, status: Status
) -> None:
    steps = (*[shell("true")] * 6, FINAL)
    with talk(tmp_path, watch, *steps, budgets={"repeats": repeats}) as conv:
        assert conv.run().status is status


@pytest.mark.parametrize(("text", "words"), [("", "said nothing"), ("Hm.", "said the same")])
def test_repeated_turns_without_calls_fail_the_run_too(
    tmp_path: Path, watch: Watch, text: str, words: str
) -> None:
    with talk(tmp_path, watch, *[say(text)] * 9) as conv:
        result = conv.run()
    assert (result.status, len(conv.events[1:-1])) == (Status.FAILED, 6)
    assert f"called nothing and {words} 5 times" in result.reason


def test_turns_with_different_texts_are_progress(tmp_path: Path, watch: Watch) -> None:
    steps = (*(say(f"Thought {number}.") for number in range(9)), FINAL)
    with talk(tmp_path, watch, *steps) as conv:
        assert conv.run().status is Status.DONE


def test_a_resumed_run_starts_to_count_again(tmp_path: Path, watch: Watch) -> None:
    steps = (*[shell("true")] * 6, FINAL)
    with talk(tmp_path, watch, *steps) as conv:
        assert conv.run().status is Status.FAILED
    with Conversation.resume(conv.run_dir, model=ScriptedModel(steps)) as again:
        assert again.run().status is Status.DONE


SAME = turn(({"command": "x"}, "out"))
OTHERS: list[tuple[Any, Any]] = [
    turn(({"command": "y"}, "out")),
    turn(({"command": "x"}, "other")),
    turn(('{"command": "x"}', "out")),
    turn(({"command": "x"}, "out"), ({"command": "x"}, "out")),
    turn(({"command": "x"}, "out"), outcome=Outcome.ERROR),
    (SAME[0], [msgspec.structs.replace(SAME[1][0], images=(Image("image/png", b"new"),))]),
]


@pytest.mark.parametrize("other", OTHERS)
def test_any_difference_begins_a_new_row(other: tuple[Any, Any]) -> None:
    seen = LoopDetector(3)
    rows = [SAME, SAME, other, SAME, SAME]
    assert [seen.add("", *row, user_messages=1) for row in rows] == [None] * 5
    assert seen.add("", *SAME, user_messages=1) is not None


def test_a_new_text_beside_the_same_calls_does_not_hide_the_repetition() -> None:
    seen = LoopDetector(3)
    told = [seen.add(f"Try {number}.", *SAME, user_messages=1) for number in range(3)]
    assert [why is None for why in told] == [True, True, False]


def test_empty_turns_in_between_do_not_hide_the_repetition() -> None:
    seen = LoopDetector(3)
    rows = [SAME, ([], []), SAME, ([], []), ([], [])]
    assert [seen.add("", *row, user_messages=1) for row in rows] == [None] * 5
    assert "got the same results 3 times" in str(seen.add("", *SAME, user_messages=1))


def test_a_user_message_starts_a_new_row() -> None:
    seen = LoopDetector(3)
    told = [seen.add("", *SAME, user_messages=said) for said in (1, 1, 2, 2, 2)]
    assert [why is None for why in told] == [True] * 4 + [False]
