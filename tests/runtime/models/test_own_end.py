"""The provider's own word for the end of an answer, read from the bytes of the response."""

from __future__ import annotations

import base64
import json
from random import Random
from typing import Any

import pytest
from odd_answers import odd_answer
from sandbox_agent.models.process.inside.own_end import OwnEnd


def sse(*events: Any, named: bool = False, end: str = "\n") -> bytes:
    lines = []
    for event in events:
        data = event if isinstance(event, str) else json.dumps(event)
        lines += [f"event: {event['type']}"] if named else []
        lines += [f"data: {data}", ""]
    return (end.join(lines) + end).encode()


def choice(finish: Any, index: int | None = 0, **delta: Any) -> dict[str, Any]:
    one = {"delta": delta, "finish_reason": finish}
    return {"choices": [one if index is None else one | {"index": index}]}


def read(body: bytes, size: int = 7) -> OwnEnd:
    """What is read of a body that arrives in pieces of that size."""
    end = OwnEnd()
    for at in range(0, len(body), size):
        end.feed(body[at : at + size])
    end.close()
    return end


def frame(payload: Any) -> bytes:
    """A frame of Amazon's event stream, as far as it is looked at."""
    data = json.dumps(payload).encode()
    return b"\0\0\0\x99\0\0\0\x54\x0b:event-type\x07\0\x0bmessageStop" + data + b"\x12\x34\x56\x78"


ENVELOPED = {"bytes": base64.b64encode(b'{"delta": {"stop_reason": "pause_turn"}}').decode()}
WORDS: dict[str, tuple[bytes, str]] = {
    "openai": (sse(choice(None, content="a"), choice("stop"), "[DONE]"), "stop"),
    "openai, usage last": (sse(choice("length"), {"choices": [], "usage": {}}, "[DONE]"), "length"),
    "openai, without a number": (sse(choice("model_length", None)), "model_length"),
    "openai, another number": (sse(choice(None, 7), choice("abort", 7)), "abort"),
    "openai, lines of Windows": (sse(choice("abort"), "[DONE]", end="\r\n"), "abort"),
    "openai, no blank lines": (sse(choice("abort"), "[DONE]").replace(b"\n\n", b"\n"), "abort"),
    "openai, no blank after the colon": (sse(choice("x")).replace(b"data: ", b"data:"), "x"),
    "openai, at once": (json.dumps(choice("weird")).encode(), "weird"),
    "openai, at once, on many lines": (json.dumps(choice("weird"), indent=2).encode(), "weird"),
    "openai, an event on many lines": (b'data: {"choices": [\ndata: ' + json.dumps(
        {"index": 0, "finish_reason": "odd"}).encode() + b"]}\n\n", "odd"),
    "openai, half a character": (sse('{"choices": [{"delta": {"content": "\\ud83d"}, '
                                     '"finish_reason": "odd"}]}'), "odd"),
    "openai, responses": (sse({"type": "response.incomplete", "response": {
        "object": "response", "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"}}}), "max_output_tokens"),
    "openai, responses, which failed": (sse(
        {"type": "response.created", "response": {"object": "response", "status": "in_progress"}},
        {"type": "response.failed", "response": {"object": "response", "status": "failed"}}),
        "failed"),
    "openai, responses, at once": (b'{"object": "response", "status": "completed"}', "completed"),
    "anthropic": (sse(
        {"type": "message_start", "message": {"stop_reason": None}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "stop_reason"}},
        {"type": "message_delta", "delta": {"stop_reason": "pause_turn"}},
        {"type": "message_stop"}, named=True), "pause_turn"),
    "anthropic, at once": (b'{"type": "message", "stop_reason": "refusal"}', "refusal"),
    "gemini": (sse({"candidates": [{"finishReason": "SAFETY"}]}), "SAFETY"),
    "gemini, not yet": (sse(
        {"candidates": [{"finishReason": "STOP"}]},
        {"candidates": [{"finishReason": "FINISH_REASON_UNSPECIFIED"}]}), "STOP"),
    "gemini, a list": (json.dumps([{"candidates": [{}]}, {"candidates": [
        {"finishReason": "RECITATION"}]}], indent=1).encode(), "RECITATION"),
    "gemini, blocked": (b'{"promptFeedback": {"blockReason": "OTHER"}}', "OTHER"),
    "cohere": (sse(
        {"type": "message-end", "delta": {"finish_reason": "ERROR_LIMIT"}}), "ERROR_LIMIT"),
    "ollama": (b'{"message": {}, "done": false}\n{"done": true, "done_reason": "load"}\n', "load"),
    "ollama, at once": (b'{"done": true, "done_reason": "length"}', "length"),
    "text generation": (sse({"details": {"finish_reason": "eos_token"}}), "eos_token"),
    "watsonx": (b'{"results": [{"stop_reason": "time_limit"}]}', "time_limit"),
    "bedrock": (frame({"delta": {"text": '"stopReason":"forged"'}}) + frame(
        {"stopReason": "guardrail_intervened"}), "guardrail_intervened"),
    "bedrock, enveloped": (frame(ENVELOPED), "pause_turn"),
    "bedrock, at once": (b'{"output": {}, "stopReason": "max_tokens"}', "max_tokens"),
    "a word that is none": (sse(choice({"a": 1})), '{"a": 1}'),
    "a word that is a number": (sse(choice(7)), "7"),
    "an endless word": (sse(choice("x" * 9999)), "x" * 100),
    "none": (sse(choice(None), choice(""), choice("null"), "[DONE]"), ""),
    "of a tool's arguments": (json.dumps({"type": "message", "content": [
        {"type": "tool_use", "input": {"stop_reason": "forged", "choices": []}}],
        "stop_reason": "tool_use"}).encode(), "tool_use"),
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 50, 1 << 20])
@pytest.mark.parametrize(("body", "word"), WORDS.values(), ids=WORDS)
def test_the_word_is_read_where_its_provider_writes_it(body: bytes, word: str, size: int) -> None:
    assert read(body, size).word == word


MARKS = {
    "[DONE]": (sse(choice(None, content="a"), "[DONE]"), True, True),
    "cut": (sse(choice(None, content="a")), True, False),
    "one piece": (b'{"choices": [{"message": {}}]}', True, True),
    "half a piece": (b'{"choices": [{"message": {}}]', False, False),
    "message_stop": (sse({"type": "message_start"}, {"type": "message_stop"}), True, True),
    "another form": (b'{"response": "hello"}', False, False),
    "a page": (b"<html></html>", False, False),
    "noise": (bytes(range(256)) * 9, False, False),
    "nothing": (b"", False, False),
    "deep": (b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", False, False),
}


@pytest.mark.parametrize(("body", "known", "marked"), MARKS.values(), ids=MARKS)
def test_an_end_without_a_word_is_marked_or_the_answer_broke_off(
    body: bytes, known: bool, marked: bool
) -> None:
    end = read(body, 1000)
    assert (end.word, end.is_known, end.is_marked) == ("", known, marked)


ERRORS = {
    "openai": (sse({"error": {"message": "overloaded", "code": 502}}), "overloaded"),
    "anthropic": (sse({"type": "error", "error": {"message": "Overloaded"}}), "Overloaded"),
    "a text": (sse({"error": "no room"}), "no room"),
    "only a code": (sse({"error": {"code": 500}}), '{"code": 500}'),
    "a type": (sse({"type": "error", "message": "gone"}), "gone"),
    "none": (sse({"error": None} | choice("stop"), {"error": {}}), ""),
}


@pytest.mark.parametrize(("body", "words"), ERRORS.values(), ids=ERRORS)
def test_an_error_in_the_place_of_an_answer_is_seen(body: bytes, words: str) -> None:
    assert read(body).error == words


def test_what_a_filter_stopped_and_what_refuses_is_kept() -> None:
    half = {"parts": [{"text": "hm", "thought": True}, {"text": "Half of"}]}
    whole = read(json.dumps({"candidates": [{"content": half, "finishReason": "SPII"}]}).encode())
    assert (whole.partial, whole.word) == ("Half of", "SPII")
    said = [choice(None, refusal="I will "), choice("stop", refusal="not."), choice(None)]
    assert read(sse(*said)).refusal == "I will not."


def test_answers_made_up_at_random_are_read_or_not_and_nothing_breaks() -> None:
    random = Random("bytes")
    undamaged = 0
    for odd in (odd_answer(random) for _ in range(600)):
        end = read(odd.body, random.choice([100, 1000, 1 << 20]))
        assert end.word.isprintable() or not odd.body.isascii()
        if len(odd.allowed) == 1 and odd.allowed.isdisjoint({"failure", "empty"}):
            undamaged += 1  # a damaged one may also fail
            assert end.word
    assert undamaged > 100


def test_pieces_of_several_answers_in_one_stream_are_noticed() -> None:
    assert read(sse(choice(None, 0), choice(None, 1), choice("stop", 0))).is_mixed
    assert not read(sse(choice(None, 1), choice("stop", 1))).is_mixed
    at_once = [{"index": 0, "finish_reason": "stop"}, {"index": 1, "finish_reason": "length"}]
    end = read(json.dumps({"choices": at_once}).encode())
    assert (end.word, end.is_mixed) == ("stop", False)


def test_a_body_of_one_long_line_costs_no_more_than_its_length() -> None:
    end = OwnEnd()
    body = b'data: {"choices": [{"delta": {"content": "' + b"a" * (8 << 20)
    for at in range(0, len(body), 4096):  # 2,000 pieces: each would be searched again and again
        end.feed(body[at : at + 4096])
    end.feed(b'"}, "finish_reason": "length"}]}\n\n')
    end.close()
    assert end.word == "length"
