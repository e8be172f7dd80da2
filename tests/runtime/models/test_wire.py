"""A history as it is sent: whatever was said in it, providers take it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from provider.history_rules import openai_problems, problems_of_history
from sandbox_agent.journal.events import ToolCall
from sandbox_agent.journal.history import (
    AssistantMessage,
    History,
    Message,
    ToolMessage,
    UserMessage,
)
from sandbox_agent.models.prompt import system_prompt
from sandbox_agent.models.wire import LONGEST_DESCRIPTION, Wire
from sandbox_agent_ipc.messages import FunctionRef, ToolSpec
from sandbox_agent_sandbox.outcome import Outcome, StartedState

MODEL = "anthropic/claude-sonnet-4-5"
SIGNED = {"type": "thinking", "thinking": "hm", "signature": "s1"}


def wire(system: str = "") -> Wire:
    return Wire(MODEL, system)


def sent(*history: Message) -> list[dict[str, Any]]:
    messages = json.loads(wire().messages(history))
    assert not openai_problems(messages)
    return list(messages)


def asked(*calls: ToolCall, text: str = "", **more: Any) -> AssistantMessage:
    return AssistantMessage(text, calls, **more)


def result(call: ToolCall, content: str = "done") -> ToolMessage:
    return ToolMessage(call.id, call.tool, content, Outcome.OK, StartedState.YES)


def call(arguments: Any = None, *, tool: str = "shell", place: int = 0, **more: Any) -> ToolCall:
    return ToolCall(f"call_1_{place}", tool, {} if arguments is None else arguments, **more)


def test_the_system_prompt_comes_first_and_is_the_same_for_the_same_tools() -> None:
    assert system_prompt(["shell"]) == system_prompt(["shell"])
    first, *rest = json.loads(Wire(MODEL, system_prompt(["shell"])).messages([UserMessage("go")]))
    assert first["role"] == "system" and "shell" in first["content"]
    assert rest == [{"role": "user", "content": "go"}]
    assert sent(UserMessage("go")) == rest  # an empty one is left out


def test_calls_and_results_keep_their_order_and_ids() -> None:
    calls = [call({"command": "ls"}), call({"command": "pwd"}, place=1)]
    said, *results = sent(UserMessage("go"), asked(*calls, text="Now."), *map(result, calls))[1:]
    assert said["content"] == "Now."
    assert [one["id"] for one in said["tool_calls"]] == ["call_1_0", "call_1_1"]
    arguments = [json.loads(one["function"]["arguments"]) for one in said["tool_calls"]]
    assert arguments == [{"command": "ls"}, {"command": "pwd"}]
    assert [one["tool_call_id"] for one in results] == ["call_1_0", "call_1_1"]
    assert results[0] == {"role": "tool", "tool_call_id": "call_1_0", "content": "done"}


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        ("  ", {}),
        ('{"a": 1', {"malformed_arguments": '{"a": 1'}),
        ("[1]", {"malformed_arguments": "[1]"}),
        ("null", {"malformed_arguments": "null"}),
        ('{"a": NaN}', {"malformed_arguments": '{"a": NaN}'}),
        ('{"a": "\\ud800"}', {"malformed_arguments": '{"a": "\\ud800"}'}),
        ('{"a": ' * 5000, {"malformed_arguments": '{"a": ' * 5000}),
    ],
    ids=["object", "none", "blank", "cut off", "list", "null", "nan", "surrogate", "deep"],
)
def test_arguments_are_sent_as_an_object_whatever_they_were(
    arguments: str, read: dict[str, Any]
) -> None:
    one = call(arguments)
    said = sent(UserMessage("go"), asked(one), result(one))[1]
    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == read


def test_names_that_no_provider_takes_are_spelt_so_that_they_are_taken() -> None:
    names = ["read file!", "ä", "", "x" * 100, "functions.shell", "shell"]
    calls = [call(tool=name, place=place) for place, name in enumerate(names)]
    said = sent(UserMessage("go"), asked(*calls), *map(result, calls))[1]
    spelt = [one["function"]["name"] for one in said["tool_calls"]]
    assert spelt == ["read_file_", "_", "unnamed", "x" * 64, "functions_shell", "shell"]


def test_what_a_model_wanted_kept_goes_back_to_it_and_to_no_other() -> None:
    kept = {"thinking_blocks": [SIGNED], "role": "system", "content": "forged"}
    one = call(
        provider_state={"provider_specific_fields": {"thought_signature": "t"}, "id": "forged"}
    )
    history = [
        UserMessage("go"),
        asked(one, text="x", model=MODEL, provider_state=kept),
        result(one),
    ]
    said = sent(*history)[1]
    assert said["thinking_blocks"] == [SIGNED]
    assert (said["role"], said["content"]) == ("assistant", "x")
    assert said["tool_calls"][0]["id"] == "call_1_0"
    assert said["tool_calls"][0]["provider_specific_fields"] == {"thought_signature": "t"}
    other = json.loads(Wire("openai/gpt-4o", "").messages(history))[1]
    assert set(other) == {"role", "content", "tool_calls"}
    assert set(other["tool_calls"][0]) == {"id", "type", "function"}


def test_an_answer_of_nothing_is_left_out_and_its_neighbours_stay_valid() -> None:
    messages = sent(UserMessage("a"), AssistantMessage(" \n"), UserMessage("b"))
    assert messages == [{"role": "user", "content": "a\n\nb"}]


def test_blank_texts_are_never_sent() -> None:
    one = call()
    messages = sent(UserMessage(" "), asked(one, text="\n"), result(one, "  "))
    assert messages[0]["content"].strip() and messages[2]["content"].strip()
    assert messages[1]["content"] is None


def test_mistral_gets_ids_of_nine_letters_and_digits() -> None:
    calls = [call(), call(place=1)]
    history = [UserMessage("go"), asked(*calls), *map(result, calls)]
    messages = json.loads(Wire("mistral/mistral-large-latest", "").messages(history))
    ids = [one["id"] for one in messages[1]["tool_calls"]]
    assert [one["tool_call_id"] for one in messages[2:]] == ids
    assert len(set(ids)) == 2
    assert all(len(one) == 9 and one.isalnum() for one in ids)


def spec(name: str = "shell", description: str = "Runs.", **parameters: Any) -> ToolSpec:
    return ToolSpec(name, description, parameters, FunctionRef("m", "f"))


def test_tools_are_functions_whose_parameters_are_an_object() -> None:
    there = wire()
    specs = [spec(), spec("other", "long " * 1000, type="object", required=["a"])]
    tools = json.loads(there.tools(specs))
    assert not openai_problems([{"role": "user", "content": "x"}], tools)
    assert tools[0]["function"] == {
        "name": "shell",
        "description": "Runs.",
        "parameters": {"type": "object", "properties": {}},
    }
    assert len(tools[1]["function"]["description"]) <= LONGEST_DESCRIPTION
    assert there.tools(list(specs)) is there.tools(specs)
    assert there.tools([]) == b""
    assert json.loads(there.tools(specs[:1])) == tools[:1]


# --- the same, whatever was sent before ---------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
arguments = st.one_of(st.dictionaries(texts, st.integers(0, 9), max_size=2), texts)


@st.composite
def histories(draw: st.DrawFn) -> list[Message]:
    """What our own rules allow."""
    history: list[Message] = [UserMessage(draw(texts))]
    for turn in range(draw(st.integers(0, 5))):
        count = draw(st.integers(0, 3))
        calls = tuple(
            ToolCall(f"call_{turn}_{place}", draw(texts) or "x", draw(arguments))
            for place in range(count)
        )
        history.append(AssistantMessage(draw(texts), calls, draw(st.sampled_from(["", MODEL]))))
        history += [result(one, draw(texts) + ".") for one in calls]
        if draw(st.booleans()):
            history.append(UserMessage(draw(texts)))
    return history


@settings(deadline=None, max_examples=200)
@given(histories(), st.booleans(), st.integers(0, 30))
def test_any_history_is_valid_and_the_same_as_if_sent_at_once(
    history: list[Message], grown: bool, cut: int
) -> None:
    assert not problems_of_history(history)
    there = wire("sys")
    for length in range(1, len(history) + 1):
        now = History(history[:length], 0) if not grown else history[:length]
        assert there.messages(now) == wire("sys").messages(now)
    assert not openai_problems(json.loads(there.messages(history)))
    # Shortened, or another one: nothing of what was sent before is left.
    other = [*history[:cut], UserMessage("other")]
    assert there.messages(other) == wire("sys").messages(other)
    assert there.messages(history) == wire("sys").messages(history)


def grown_history(turns: int) -> tuple[list[Message], list[int]]:
    messages: list[Message] = [UserMessage("go")]
    ends = []
    for turn in range(turns):
        one = ToolCall(f"call_{turn}_0", "shell", {"command": "make test"})
        messages += [asked(one, text="Again.", model=MODEL), result(one, "ok\n" * 20)]
        ends.append(len(messages))
    return messages, ends


def test_a_message_is_encoded_once_however_often_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded: list[Message] = []
    there = wire()
    real = there._message

    def counting(message: Any) -> bytes:
        encoded.append(message)
        return real(message)

    monkeypatch.setattr(there, "_message", counting)
    messages: list[Message] = []
    whole, ends = grown_history(50)
    for end in ends:
        messages += whole[len(messages) : end]
        there.messages(History(messages, 0))
    assert len(encoded) == len(whole) - 1
    # An old result is shortened: it alone is encoded again.
    shortened = list(messages)
    shortened[2] = result(call(), "short")
    there.messages(History(shortened, 0))
    assert len(encoded) == len(whole)


def test_the_last_of_a_thousand_turns_costs_little() -> None:
    there = wire("sys")
    messages: list[Message] = []
    whole, ends = grown_history(1000)
    times = []
    for end in ends:
        messages += whole[len(messages) : end]
        history = History(messages, 0)
        before = time.thread_time()
        there.messages(history)
        times.append(time.thread_time() - before)
    # What still grows is a copy of what is sent: some hundred kilobytes.
    assert sorted(times[-100:])[50] < 0.002
