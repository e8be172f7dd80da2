"""The scripted model: the next turn each time, and steps files whose faults are named."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sandbox_agent.errors import AgentFailed, ConfigError
from sandbox_agent.journal.history import AssistantMessage, Message, ToolMessage, UserMessage
from sandbox_agent.models import ModelCall, ModelTurn
from sandbox_agent.models.scripted import ScriptedModel, load_script
from sandbox_agent_ipc.token import RunToken
from sandbox_agent_sandbox.outcome import Outcome, StartedState

STEPS = """\
- say: "Let me look."
  calls:
    - shell: {command: "ls"}
    - read_file: {path: src/app.py}
  expect: ["1 failed", "^two$"]
- calls: [list_files: ]
- final: "Done."
"""


def script(folder: Path, text: str) -> ScriptedModel:
    path = folder / "steps.yaml"
    path.write_text(text)
    return load_script(path)


def ask(model: ScriptedModel, *history: Message) -> ModelTurn:
    return asyncio.run(model.complete(history, (), RunToken(), lambda delta: None))


def said(*results: str, outcome: Outcome = Outcome.OK) -> list[Message]:
    return [
        AssistantMessage(""),
        *(ToolMessage("id", "shell", text, outcome, StartedState.YES) for text in results),
    ]


def test_each_request_takes_the_next_turn(tmp_path: Path) -> None:
    model = script(tmp_path, STEPS)
    first = ask(model, UserMessage("go"))
    assert first == ModelTurn(
        "Let me look.",
        (ModelCall("shell", {"command": "ls"}), ModelCall("read_file", {"path": "src/app.py"})),
    )
    results = said("1 failed", "two")
    assert ask(model, *results).calls == (ModelCall("list_files", {}),)
    assert ask(model, *results, *said("x")) == ModelTurn("Done.", final=True)


def test_the_position_is_in_the_history_alone(tmp_path: Path) -> None:
    # So it is the same after an interrupt and in another process.
    model, another = script(tmp_path, STEPS), script(tmp_path, STEPS)
    assert ask(model, UserMessage("go")) == ask(model, UserMessage("go"))
    assert ask(another, *said("1 failed", "two")) == ask(model, *said("1 failed", "two"))


def test_a_list_that_is_used_up_fails_the_run(tmp_path: Path) -> None:
    model = script(tmp_path, "- say: hm\n")
    with pytest.raises(AgentFailed, match="all 1 turns are used up"):
        ask(model, *said())


def test_results_that_are_not_as_expected_fail_the_run(tmp_path: Path) -> None:
    model = script(tmp_path, STEPS)
    with pytest.raises(AgentFailed, match=r"steps\.yaml:1: expected .*'1 failed'; got: 'all well"):
        ask(model, *said("all well", "two"))


def test_only_the_last_turns_results_are_looked_at(tmp_path: Path) -> None:
    model = script(tmp_path, "- calls: [{a: {}}]\n- calls: [{a: {}}]\n  expect: [new]\n")
    with pytest.raises(AgentFailed, match="expected"):
        ask(model, *said("new"), *said("old"))


@pytest.mark.parametrize("outcome", ["cancelled", "killed", "skipped", "unknown"])
def test_nothing_is_expected_of_a_turn_that_was_stopped(tmp_path: Path, outcome: str) -> None:
    model = script(tmp_path, STEPS)
    assert ask(model, *said("", outcome=Outcome(outcome))).calls


def test_calls_remember_their_lines(tmp_path: Path) -> None:
    model = script(tmp_path, STEPS)
    lines = [[place.rpartition(":")[2] for place in step.call_places] for step in model.steps]
    assert lines == [["3", "4"], ["6"], []]


@pytest.mark.parametrize(
    ("text", "line", "field", "what"),
    [
        ("say: hi\n", 1, None, "a scripted model must be a list of turns"),
        ("- say: a\n- hello\n", 2, "[1]", "a turn must be a mapping, not text"),
        ("- say: a\n- 7\n", 2, "[1]", "a turn must be a mapping, not 7"),
        ("- {}\n", 1, "[0]", "a turn needs `say` or `calls`"),
        ("- say: a\n  cals: []\n", 2, "[0].cals", "unknown field 'cals'"),
        ("- say: 3\n", 1, "[0].say", "must be text, not 3"),
        ("- final: a\n  calls: []\n", 1, "[0].final", "cannot have `calls`"),
        ("- say: a\n  expect: [x]\n", 2, "[0].expect", "without calls"),
        ("- calls: [{a: {}}]\n  expect: ['(']\n", 2, "[0].expect[0]", "not a regular expression"),
        ("- calls: [{a: {}}]\n  expect: x\n", 2, "[0].expect", "must be a list, not text"),
        ("- calls: {a: {}}\n", 1, "[0].calls", "must be a list, not a mapping"),
        ("- calls: [a]\n", 1, "[0].calls[0]", "a call must name one tool"),
        ("- calls:\n    - {a: {}, b: {}}\n", 2, "[0].calls[0]", "a call must name one tool"),
        ("- calls:\n    - a: [1]\n", 2, "[0].calls[0].a", "not a list"),
        ("- calls:\n    - '': {}\n", 2, "[0].calls[0]", "'' is not a tool name"),
    ],
)
def test_a_fault_is_named_with_line_field_and_hint(
    tmp_path: Path, text: str, line: int, field: str | None, what: str
) -> None:
    with pytest.raises(ConfigError, match=None) as caught:
        script(tmp_path, text)
    error = caught.value
    assert (error.line, error.field) == (line, field)
    assert error.file == str(tmp_path / "steps.yaml")
    assert what in error.what
    assert error.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: there is no such file"):
        load_script(tmp_path / "gone.yaml")
