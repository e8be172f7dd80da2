"""Each rule refuses what breaks it, and only that."""

from __future__ import annotations

from typing import Any

import pytest
from sandbox_agent.journal.events import ToolCall
from sandbox_agent.journal.history import AssistantMessage, ToolMessage, UserMessage
from sandbox_agent_sandbox.outcome import Outcome, StartedState

from provider.history_rules import anthropic_problems, openai_problems, problems_of_history

Json = dict[str, Any]


# --- OpenAI ------------------------------------------------------------------------------------


def call(id: str = "call_1_0", name: str = "shell", arguments: Any = "{}") -> Json:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def asks(*calls: Json, **more: Any) -> Json:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **more}


def result(id: str = "call_1_0", content: Any = "out") -> Json:
    return {"role": "tool", "tool_call_id": id, "content": content}


def tool(name: str = "shell", **more: Any) -> Json:
    function = {"name": name, "parameters": {"type": "object"}, **more}
    return {"type": "function", "function": function}


USER = {"role": "user", "content": "go on"}
SAID = {"role": "assistant", "content": "done"}


@pytest.mark.parametrize(
    "messages",
    [
        [USER],
        [{"role": "system", "content": "be brief"}, USER, SAID, USER],
        [USER, asks(call()), result()],
        [USER, asks(call("a"), call("b")), result("b"), result("a"), SAID],
        [USER, asks(call(), content="I look"), result(content=""), USER],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}],
    ],
)
def test_what_openai_takes_has_no_problem(messages: list[Json]) -> None:
    assert openai_problems(messages, [tool()]) == []


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([], "at least one"),
        ([{"role": "model", "content": "x"}], "role must be"),
        ([USER, {"role": "assistant", "content": ""}], "content or tool_calls"),
        ([USER, {"role": "assistant", "content": None}], "content or tool_calls"),
        ([USER, {"role": "assistant", "content": "x", "tool_calls": []}], "at least one"),
        ([{"role": "user", "content": None}], "string or an array"),
        ([{"role": "user", "content": [{"type": "tool_result"}]}], "part of type"),
        ([USER, asks(call())], "missing: call_1_0"),
        ([USER, asks(call()), USER, result()], "missing: call_1_0"),
        ([USER, asks(call("a"), call("b")), result("a")], "missing: b"),
        ([USER, asks(call()), result(), result()], "nothing waits"),
        ([USER, result()], "nothing waits"),
        ([USER, asks(call("a"), call("a")), result("a"), result("a")], "used again"),
        ([USER, asks(call("a")), result("a"), asks(call("a")), result("a")], "used again"),
        ([USER, asks(call("x" * 41)), result("x" * 41)], "1 to 40 characters"),
        ([USER, asks(call(name="no such")), result()], "function.name"),
        ([USER, asks(call(arguments={})), result()], "JSON object"),
        ([USER, asks(call(arguments='{"a": ')), result()], "JSON object"),
        ([USER, asks(call(arguments="[]")), result()], "JSON object"),
        ([USER, asks(call(arguments="")), result()], "JSON object"),
        ([USER, asks(call()), result(content=[{"type": "image_url"}])], "text only"),
        ([{**USER, "tool_calls": [call()]}, result()], "only an assistant"),
    ],
)
def test_what_openai_refuses_is_named(messages: list[Json], problem: str) -> None:
    assert any(problem in found for found in openai_problems(messages))


@pytest.mark.parametrize(
    ("tools", "problem"),
    [
        ([], "1 to 128"),
        ([tool("a b")], "does not match"),
        ([tool(), tool()], "there twice"),
        ([tool(parameters={"type": "array"})], "type 'object'"),
        ([tool(description="x" * 1025)], "over 1024"),
        ([{"name": "shell"}], "expected a function"),
    ],
)
def test_tools_that_openai_refuses_are_named(tools: list[Json], problem: str) -> None:
    assert any(problem in found for found in openai_problems([USER], tools))


# --- Anthropic ---------------------------------------------------------------------------------


def text(words: str = "words") -> Json:
    return {"type": "text", "text": words}


def use(id: str = "call_1_0", **more: Any) -> Json:
    return {"type": "tool_use", "id": id, "name": "shell", "input": {}, **more}


def gives(id: str = "call_1_0", content: Any = "out", **more: Any) -> Json:
    return {"type": "tool_result", "tool_use_id": id, "content": content, **more}


def user(*blocks: Json) -> Json:
    return {"role": "user", "content": list(blocks) or "go on"}


def assistant(*blocks: Json) -> Json:
    return {"role": "assistant", "content": list(blocks)}


THINKS = {"type": "thinking", "thinking": "hm", "signature": "s"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}


def body(*messages: Json, **more: Any) -> Json:
    tools = [{"name": "shell", "input_schema": {"type": "object"}}]
    whole = {"model": "m", "max_tokens": 9, "tools": tools, "messages": list(messages)}
    return {name: value for name, value in (whole | more).items() if value is not None}


ENABLED = {"type": "enabled", "budget_tokens": 1024}


@pytest.mark.parametrize(
    "request_body",
    [
        body(user()),
        body(user(), user(text(), IMAGE), assistant(text("so")), user(), system="be brief"),
        body(user(), assistant(text(), use()), user(gives(), text())),
        body(user(), assistant(use("a"), use("b")), user(gives("b"), gives("a", [text(), IMAGE]))),
        body(user(), assistant(THINKS, text(), use()), user(gives()), thinking=ENABLED),
        body(user(), assistant(use()), user(gives(is_error=True)), assistant(text()), user()),
    ],
)
def test_what_anthropic_takes_has_no_problem(request_body: Json) -> None:
    assert anthropic_problems(request_body) == []


@pytest.mark.parametrize(
    ("request_body", "problem"),
    [
        (body(), "at least one"),
        (body({"role": "system", "content": "x"}), "user or assistant"),
        (body(user(), max_tokens=None), "max_tokens"),
        (body(user(), system=""), "system"),
        (body(assistant(text()), user()), "first message"),
        (body(user(), assistant(), user()), "non-empty content"),
        (body(user(text(" \n"))), "non-whitespace"),
        (body(user(use())), "has a block of type 'tool_use'"),
        (body(user(), assistant(use())), "without `tool_result`"),
        (body(user(), assistant(use()), user(), user(gives())), "without `tool_result`"),
        (body(user(), assistant(use("a"), use("b")), user(gives("a"))), "after: b"),
        (
            body(user(), assistant(use("a"), use("b")), user(gives("a")), user(gives("b"))),
            "after: b",
        ),
        (body(user(), assistant(use()), user(text(), gives())), "before all other"),
        (body(user(), assistant(use()), user(gives(), gives())), "single result"),
        (body(user(gives())), "unexpected `tool_use_id`"),
        (body(user(), assistant(use("a:b")), user(gives("a:b"))), "does not match"),
        (body(user(), assistant(use(name="a b")), user(gives())), "does not match"),
        (body(user(), assistant(use(input="{}")), user(gives())), "valid dictionary"),
        (body(user(), assistant(use(), use()), user(gives())), "used again"),
        (body(user(), assistant(use(), text()), user(gives())), "after its tool_use"),
        (body(user(), assistant(use()), user(gives(content=[text("")]))), "non-empty"),
        (body(user(), assistant(use()), user(gives(content=[IMAGE], is_error=True))), "is_error"),
        (body(user(), assistant(use()), user(gives()), tools=None), "define tools"),
        (body(user(), assistant(text("so "))), "trailing whitespace"),
        (body(user(), assistant(text(), THINKS), user()), "thinking blocks come before"),
        (body(user(), assistant({**THINKS, "signature": ""}, text()), user()), "its signature"),
        (body(user(), assistant(use()), user(gives()), thinking=ENABLED), "Expected `thinking`"),
        (body(user(), tools=[{"name": "a b"}]), "does not match"),
        (body(user(), tools=[{"name": "a"}]), "input_schema"),
        (body(user(*({**text(), "cache_control": {}} for _ in range(5)))), "maximum of 4"),
    ],
)
def test_what_anthropic_refuses_is_named(request_body: Json, problem: str) -> None:
    assert any(problem in found for found in anthropic_problems(request_body))


# --- ours --------------------------------------------------------------------------------------


def turn(*ids: str) -> AssistantMessage:
    return AssistantMessage("", tuple(ToolCall(id, "shell", {}) for id in ids))


def ended(id: str, outcome: Outcome = Outcome.OK, *, tool: str = "shell") -> ToolMessage:
    started = StartedState.NO if outcome is Outcome.SKIPPED else StartedState.YES
    return ToolMessage(id, tool, "out", outcome, started)


GO = UserMessage("go on")


def test_a_whole_history_has_no_problem() -> None:
    assert problems_of_history([]) == []
    assert problems_of_history([GO, GO, turn()]) == []
    assert problems_of_history([GO, turn("a", "b"), ended("a"), ended("b", Outcome.SKIPPED)]) == []


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([turn()], "the user does not begin"),
        ([GO, turn("a")], "at the end: no result of a"),
        ([GO, turn("a"), GO], "no result of a"),
        ([GO, turn("a", "b"), ended("a")], "no result of b"),
        ([GO, turn("a", "b"), ended("b"), ended("a")], "where a (shell) is due"),
        ([GO, turn("a"), ended("a"), ended("a")], "where none is due"),
        ([GO, turn("a"), ended("a", tool="files")], "where a (shell) is due"),
        ([GO, turn("a"), ended("a"), turn("a"), ended("a")], "used again"),
        ([GO, turn("a.b"), ended("a.b")], "none that providers take"),
        ([GO, turn("a"), ToolMessage("a", "shell", "\n", Outcome.OK, StartedState.YES)], "empty"),
        (
            [GO, turn("a"), ToolMessage("a", "shell", "x", Outcome.SKIPPED, StartedState.YES)],
            "said to be skipped",
        ),
    ],
)
def test_a_broken_history_is_named(messages: list[Any], problem: str) -> None:
    assert any(problem in found for found in problems_of_history(messages))
