"""How answers end, through the real litellm: half an answer never looks whole, whoever sends it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asker import Asker
from raw_server import events, http, raw
from sandbox_agent_ipc.model_messages import Answer, Failure, FailureKind, Finish

GPT = "openai/gpt-4o"
CLAUDE = "anthropic/claude-sonnet-4-5"
MISTRAL = "mistral/mistral-large-latest"
GEMINI = "gemini/gemini-2.5-pro"
COHERE = "cohere_chat/command-a-03-2025"
OLLAMA = "ollama_chat/llama3"
TEXT = "Half of what"
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
either_way = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


def openai(finish: str | None, stream: bool, **message: Any) -> bytes:
    """An answer of OpenAI's kind. message: what is in it; a text, if nothing is."""
    message = {"role": "assistant"} | (message or {"content": TEXT})
    head = {"id": "c", "created": 1, "model": "m"}
    if not stream:
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return http(json.dumps(head | {"choices": [choice], "usage": USAGE}).encode())
    pieces = [(message, None), ({}, finish)]
    chunks = [{"choices": [{"index": 0, "delta": d, "finish_reason": f}]} for d, f in pieces]
    chunks.append({"choices": [], "usage": USAGE})
    kind = {"object": "chat.completion.chunk"}
    return events(*(json.dumps(head | kind | chunk) for chunk in chunks), "[DONE]")


def anthropic(finish: str | None, stream: bool) -> bytes:
    message = {
        "id": "m", "type": "message", "role": "assistant", "model": "c", "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }  # fmt: skip
    if not stream:
        content = {"content": [{"type": "text", "text": TEXT}], "stop_reason": finish}
        return http(json.dumps(message | content).encode())
    block = {"type": "text", "text": ""}
    sent: list[dict[str, Any]] = [
        {"type": "message_start", "message": message | {"content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": finish}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    text = "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in sent)
    return http(text.encode(), "text/event-stream")


def gemini(finish: str | None, stream: bool) -> bytes:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": TEXT}]}}
    if finish is not None:
        candidate["finishReason"] = finish
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
    answer = json.dumps({"candidates": [candidate], "usageMetadata": usage})
    return events(answer) if stream else http(answer.encode())


def cohere(finish: str | None, stream: bool) -> bytes:
    if not stream:
        content = [{"type": "text", "text": TEXT}]
        answer = {"id": "c", "finish_reason": finish, "message": {"role": "assistant"}}
        answer["message"] = {"role": "assistant", "content": content}
        return http(json.dumps(answer | {"usage": {"tokens": {}}}).encode())
    delta = {"message": {"content": {"text": TEXT}}}
    sent = [
        {"type": "content-delta", "index": 0, "delta": delta},
        {"type": "message-end", "delta": {"finish_reason": finish}},
    ]
    return http("".join(f"{json.dumps(one)}\n" for one in sent).encode())


def ollama(finish: str | None, stream: bool) -> bytes:
    message = {"role": "assistant", "content": TEXT}
    last = {"model": "llama3", "done": True, "done_reason": finish, "prompt_eval_count": 5}
    if not stream:
        return http(json.dumps(last | {"message": message}).encode())
    pieces = [{"model": "llama3", "message": message, "done": False}, last | {"message": message}]
    return http("".join(f"{json.dumps(one)}\n" for one in pieces).encode(), "application/x-ndjson")


PROVIDERS = {
    GPT: openai, MISTRAL: openai, CLAUDE: anthropic, GEMINI: gemini, COHERE: cohere, OLLAMA: ollama,
}  # fmt: skip
KEYS = {"MISTRAL_API_KEY": "ms-1234567890abcd", "COHERE_API_KEY": "co-1234567890abcd"}

ENDS = {
    GPT: {
        "stop": Finish.STOP, "length": Finish.LENGTH, "content_filter": Finish.REFUSED,
        "weird": None, "tool_calls": None, "pause_turn": Finish.PAUSED,
    },
    MISTRAL: {"stop": Finish.STOP, "model_length": Finish.LENGTH, "weird": None},
    CLAUDE: {
        "end_turn": Finish.STOP, "stop_sequence": Finish.STOP, "max_tokens": Finish.LENGTH,
        "model_context_window_exceeded": Finish.LENGTH, "refusal": Finish.REFUSED,
        "pause_turn": Finish.PAUSED, "tool_use": None, "weird": None,
    },
    GEMINI: {
        "STOP": Finish.STOP, "MAX_TOKENS": Finish.LENGTH, "SAFETY": Finish.REFUSED,
        "RECITATION": Finish.REFUSED, "PROHIBITED_CONTENT": Finish.REFUSED, "SPII": Finish.REFUSED,
        "OTHER": None, "MALFORMED_FUNCTION_CALL": None, "TOO_MANY_TOOL_CALLS": None, "NEW": None,
    },
    COHERE: {
        "COMPLETE": Finish.STOP, "MAX_TOKENS": Finish.LENGTH, "ERROR_TOXIC": Finish.REFUSED,
        "ERROR": None, "ERROR_LIMIT": None,
    },
    OLLAMA: {"stop": Finish.STOP, "length": Finish.LENGTH, "load": None},
}  # fmt: skip
CASES = [(model, word, finish) for model, words in ENDS.items() for word, finish in words.items()]


def fields(model: str, base: str, stream: bool) -> dict[str, Any]:
    path = "/v1" if model in (GPT, MISTRAL) else "/v2/chat" if model == COHERE else ""
    return {"api_base": base + path, "stream": stream}


@pytest.fixture(scope="module", autouse=True)
def more_keys(asker: Asker) -> None:
    asker.set_environ(**KEYS)


@either_way
@pytest.mark.parametrize(("model", "word", "finish"), CASES)
def test_only_a_true_end_is_one(
    asker: Asker, model: str, word: str, finish: Finish | None, stream: bool
) -> None:
    with raw(PROVIDERS[model](word, stream)) as server:
        asked = asker.begin(model, retries=0, **fields(model, server.base, stream))
        result = asker.end(asked).result
    if finish is None:
        assert isinstance(result, Failure), result
        assert result.kind is FailureKind.PROVIDER
        assert word in result.text
        return
    assert isinstance(result, Answer), result
    assert (result.finish, result.finish_word) == (finish, word)
    assert result.text.startswith(TEXT)


@either_way
def test_an_answer_with_an_unknown_end_is_asked_for_again(asker: Asker, stream: bool) -> None:
    with raw(openai("weird", stream), openai("stop", stream, content="All.")) as server:
        asked = asker.begin(GPT, retries=1, **fields(GPT, server.base, stream))
        answer = asker.end(asked).result
    assert isinstance(answer, Answer)
    assert (answer.text, answer.attempts, answer.finish) == ("All.", 2, Finish.STOP)
    assert "'weird'" in asked.said("restart")[0]


def call(arguments: str) -> dict[str, Any]:
    function = {"name": "shell", "arguments": arguments}
    return {"id": "a", "type": "function", "function": function}


CALL, HALF = call('{"command":"ls"}'), call('{"comm')


@either_way
@pytest.mark.parametrize("word", ["tool_calls", "stop", "function_call"])
def test_whole_calls_are_calls_whatever_the_word(asker: Asker, word: str, stream: bool) -> None:
    body = openai(word, stream, content=None, tool_calls=[CALL | ({"index": 0} if stream else {})])
    with raw(body) as server:
        answer = asker.answer(GPT, **fields(GPT, server.base, stream))
    assert (answer.finish, len(answer.calls)) == (Finish.CALLS, 1)


@either_way
def test_a_call_that_the_limit_cut_is_told_with_the_limit(asker: Asker, stream: bool) -> None:
    body = openai("length", stream, content=None, tool_calls=[HALF | {"index": 0}])
    with raw(body) as server:
        answer = asker.answer(GPT, **fields(GPT, server.base, stream))
    assert (answer.finish, len(answer.calls)) == (Finish.LENGTH, 1)


@either_way
@pytest.mark.parametrize("model", [GPT, MISTRAL])
def test_a_call_with_arguments_that_are_too_deep_is_a_call(
    asker: Asker, model: str, stream: bool
) -> None:
    deep = '{"a": ' + "[" * 10_000 + "]" * 10_000 + "}"
    body = openai("tool_calls", stream, content=None, tool_calls=[call(deep) | {"index": 0}])
    with raw(body) as server:
        answer = asker.answer(model, **fields(model, server.base, stream))
    assert [one.arguments for one in answer.calls] == [deep]


@pytest.mark.parametrize("model", [GPT, MISTRAL])
@pytest.mark.parametrize(
    "idle", [b"data:\n\n", b"data: \r\n\r\n", b": ping\n\n", b"\n\n"], ids=repr
)
def test_events_without_data_keep_a_stream_alive(asker: Asker, model: str, idle: bytes) -> None:
    _, _, stream = openai("stop", True, content="All.").partition(b"\r\n\r\n")
    body = idle + stream.replace(b"\n\n", b"\n\n" + idle)
    with raw(http(body, "text/event-stream")) as server:
        answer = asker.answer(model, **fields(model, server.base, True))
    assert (answer.text, answer.finish) == ("All.", Finish.STOP)


# --- ends without a word -----------------------------------------------------------------------


def piece(**delta: Any) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return json.dumps(head | {"choices": [choice]})


@pytest.mark.parametrize("model", [GPT, MISTRAL])
def test_done_ends_an_answer_without_a_reason(asker: Asker, model: str) -> None:
    with raw(events(piece(content="All of it."), "[DONE]")) as server:
        answer = asker.answer(model, **fields(model, server.base, True))
    assert (answer.text, answer.finish) == ("All of it.", Finish.STOP)


UNFINISHED = {
    "cut": events(piece(content="Half")),
    "half a call": events(piece(tool_calls=[HALF | {"index": 0}]), "[DONE]"),
    "a call without arguments": events(
        piece(tool_calls=[CALL | {"index": 0, "function": {"name": "shell"}}]), "[DONE]"
    ),
    "an error": events(piece(content="Half"), '{"error": {"message": "no room", "code": 502}}'),
    "an error, then done": events(piece(content="Half"), '{"error": {"message": "x"}}', "[DONE]"),
}


@pytest.mark.parametrize("body", UNFINISHED.values(), ids=UNFINISHED)
@pytest.mark.parametrize("model", [GPT, MISTRAL])
def test_what_broke_off_is_no_answer(asker: Asker, model: str, body: bytes) -> None:
    with raw(body) as server:
        failure = asker.failure(model, **fields(model, server.base, True))
    assert failure.kind in (FailureKind.CONNECTION, FailureKind.PROVIDER)


@pytest.mark.parametrize("model", [CLAUDE, GEMINI])
def test_a_stream_that_ends_too_early_is_no_answer(asker: Asker, model: str) -> None:
    body = PROVIDERS[model](None, True)
    if model == CLAUDE:
        body = http(body.partition(b"\r\n\r\n")[2].partition(b"event: message_delta")[0],
                    "text/event-stream")  # fmt: skip
    with raw(body) as server:
        failure = asker.failure(model, **fields(model, server.base, True))
    assert failure.kind is FailureKind.CONNECTION


@either_way
@pytest.mark.parametrize("model", [GPT, MISTRAL])
def test_several_choices_are_never_mixed(asker: Asker, model: str, stream: bool) -> None:
    def choices(*said: tuple[int, str, str | None]) -> list[dict[str, Any]]:
        name = "delta" if stream else "message"
        return [
            {"index": index, name: {"role": "assistant", "content": text}, "finish_reason": finish}
            for index, text, finish in said
        ]

    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    if stream:
        told = [[(0, "One", None)], [(1, "Two", None)], [(1, "", "length")], [(0, ".", "stop")]]
        body = events(*(json.dumps(head | {"choices": choices(*one)}) for one in told), "[DONE]")
    else:
        both = choices((0, "One.", "stop"), (1, "Two", "length"))
        body = http(json.dumps(head | {"choices": both, "usage": USAGE}).encode())
    with raw(body) as server:
        asked = asker.begin(model, retries=3, **fields(model, server.base, stream))
        result = asker.end(asked).result
    if stream:  # litellm drops the numbers of the choices
        assert isinstance(result, Failure)
        assert "model.params.n" in result.text
        assert result.attempts == 1
    else:
        assert isinstance(result, Answer)
        assert (result.text, result.finish) == ("One.", Finish.STOP)


@pytest.mark.parametrize("model", [GPT, MISTRAL])
def test_a_server_that_does_not_stream_is_named(asker: Asker, model: str) -> None:
    with raw(openai("stop", False)) as server:
        failure = asker.failure(model, retries=3, **fields(model, server.base, True))
    assert "set model.stream to false" in failure.text
    assert failure.attempts == 1


def test_openais_responses_end_as_they_say(asker: Asker) -> None:
    def response(status: str, **more: Any) -> bytes:
        text = {"type": "output_text", "text": TEXT, "annotations": []}
        said = {"type": "message", "id": "m", "status": "completed", "role": "assistant"}
        body = {"id": "r", "object": "response", "created_at": 1, "status": status, "model": "m",
                "output": [said | {"content": [text]}], "parallel_tool_calls": True,
                "tool_choice": "auto", "tools": [], **more}  # fmt: skip
        return http(json.dumps(body).encode())

    model, cut = "openai/responses/gpt-4o", {"incomplete_details": {"reason": "max_output_tokens"}}
    for body, finish in (
        (response("completed"), Finish.STOP),
        (response("incomplete", **cut), Finish.LENGTH),
        (response("incomplete"), None),
    ):
        with raw(body) as server:
            asked = asker.begin(model, api_base=f"{server.base}/v1", stream=False)
            result = asker.end(asked).result
        assert (result.finish if isinstance(result, Answer) else None) is finish


# --- refusals ----------------------------------------------------------------------------------


@either_way
@pytest.mark.parametrize("model", [GPT, MISTRAL])
@pytest.mark.parametrize("content", [None, "", "Sure."])
def test_a_refusal_is_shown_and_is_no_success(
    asker: Asker, model: str, content: str | None, stream: bool
) -> None:
    with raw(openai("stop", stream, content=content, refusal="I will not.")) as server:
        asked = asker.begin(model, **fields(model, server.base, stream))
        answer = asker.end(asked).result
    assert isinstance(answer, Answer), answer
    assert (answer.finish, answer.finish_word) == (Finish.REFUSED, "refusal")
    assert answer.text == (content or "") + "I will not."
    assert "".join(asked.said("text")) == answer.text


@either_way
def test_a_prompt_that_gemini_blocks_is_refused(asker: Asker, stream: bool) -> None:
    body = json.dumps({"promptFeedback": {"blockReason": "OTHER"}, "usageMetadata": {}})
    with raw(events(body) if stream else http(body.encode())) as server:
        answer = asker.answer(GEMINI, **fields(GEMINI, server.base, stream))
    assert (answer.finish, answer.finish_word, answer.text) == (Finish.REFUSED, "OTHER", "")
