"""Answers of providers, made up at random from a seed, each with what may be made of it.

Some are as their provider would send them, with any word for the end. Others are damaged: cut, with
events that belong nowhere, with values of the wrong type.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

GPT = "openai/gpt-4o"
CLAUDE = "anthropic/claude-sonnet-4-5"
GEMINI = "gemini/gemini-2.5-pro"
MISTRAL = "mistral/mistral-large-latest"

WORDS = {
    "whole": {GPT: "stop", MISTRAL: "stop", CLAUDE: "end_turn", GEMINI: "STOP"},
    "whole too": {GPT: "eos", MISTRAL: "stop", CLAUDE: "stop_sequence", GEMINI: "STOP"},
    "calls": {GPT: "tool_calls", MISTRAL: "tool_calls", CLAUDE: "tool_use", GEMINI: "STOP"},
    "cut": {GPT: "length", MISTRAL: "model_length", CLAUDE: "max_tokens", GEMINI: "MAX_TOKENS"},
    "refused": {GPT: "content_filter", MISTRAL: "sensitive", CLAUDE: "refusal", GEMINI: "SAFETY"},
    "paused": dict.fromkeys((GPT, MISTRAL, CLAUDE, GEMINI), "pause_turn"),
    "no end": {GPT: "error", MISTRAL: "weird", CLAUDE: "new_word", GEMINI: "MALFORMED_RESPONSE"},
}  # fmt: skip
TEXTS = [
    "",
    " \n",
    "All is well.",
    "Half",
    "\U0001f600 \u202e\x1b[31m \0",
    "x" * 4000,
    '{"a": 1}',
]
ARGUMENTS = [
    "{}", '{"command": "true"}', "", '{"comm', "null", "[]", "7", '"x"', '{"a": NaN}',
    '{"timeout": %s}' % ("9" * 400), '{"a": 1e999}', '{"a": "\\ud83d"}', "{}{}",
    '{"a": ' + "[" * 3000 + "]" * 3000 + "}", '{"a": 1, "a": 2}', "\0", '{"command": "y"}',
]  # fmt: skip
NAMES = ["shell", "read_file", "no such", "", "\0\x1b", "z" * 3000, "\U0001f600"]
JUNK: list[Any] = [
    None, True, -1, 10**30, 10**400, 1.5, "", "x", [], {}, [None], {"a": []}, "\ud83d", [[[]]],
    "null",
]  # fmt: skip


@dataclass(frozen=True)
class Odd:
    """An answer. allowed: what may be made of it: `final`, `calls`, `cut`, `refused`, `paused`,
    `empty` (an answer without text), `failure`."""

    model: str
    stream: bool
    body: bytes
    kind: str
    allowed: frozenset[str]

    @property
    def http(self) -> bytes:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {self.kind}\r\nConnection: close\r\n\r\n"
        return head.encode() + self.body


@dataclass(frozen=True)
class Said:
    """What the answer says, before a provider's form is given to it."""

    text: str
    reasoning: str
    calls: tuple[tuple[str, str], ...]
    end: str


def odd_answer(random: Random) -> Odd:
    model = random.choice([GPT, GPT, CLAUDE, GEMINI, MISTRAL])
    stream = random.random() < 0.7
    calls = tuple(
        (random.choice(NAMES), random.choice(ARGUMENTS))
        for _ in range(random.choice([0, 0, 0, 1, 1, 2, 5]))
    )
    if model in (CLAUDE, GEMINI):  # their calls hold objects, and have names
        calls = tuple((name or "shell", "{}") for name, _ in calls)
    reasoning = random.choice(["", "", "Hm."])
    said = Said(random.choice(TEXTS), reasoning, calls, random.choice(sorted(WORDS)))
    events = copy.deepcopy(_FORMS[model](said, stream))  # it is damaged in place
    damage = random.choice([None, None, None, _cut, _junk_event, _wrong_type, _without, _noise])
    allowed = _allowed(said, model)
    if damage is not None:
        body = damage(random, events, stream, model)
        # What is damaged may still be read; what is lost must not look whole.
        marks = (WORDS[said.end][model], "[DONE]", '"message_stop"')
        whole = not stream or any(mark.encode() in body for mark in marks)
        allowed = frozenset({"failure", "empty", *(ANY if whole else ())})
    else:
        body = _body(events, stream, model)
    return Odd(model, stream, body, "text/event-stream" if stream else "application/json", allowed)


ANY = ("final", "calls", "cut", "refused", "paused")


def _allowed(said: Said, model: str) -> frozenset[str]:
    has_text, has_calls = bool(said.text.strip()), bool(said.calls)
    match said.end:
        case "whole" | "whole too":
            one = "calls" if has_calls else "final" if has_text else "empty"
        case "calls":
            one = "calls" if has_calls else "failure"
            if model == GEMINI and not has_calls:  # which has one word for both
                one = "final" if has_text else "empty"
        case "no end":
            one = "failure"
        case "paused":
            one = "calls" if has_calls else "paused"
        case other:
            one = other
    return frozenset({one})


# --- forms ------------------------------------------------------------------------------------

Json = dict[str, Any]
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def _openai(said: Said, stream: bool) -> list[Json]:
    word = WORDS[said.end][GPT]
    return _openai_with(said, stream, word)


def _mistral(said: Said, stream: bool) -> list[Json]:
    return _openai_with(said, stream, WORDS[said.end][MISTRAL])


def _openai_with(said: Said, stream: bool, word: str) -> list[Json]:
    head: Json = {"id": "c", "created": 1, "model": "m", "object": "chat.completion"}
    calls = [
        {"index": at, "id": f"c{at}", "type": "function",
         "function": {"name": name, "arguments": arguments}}
        for at, (name, arguments) in enumerate(said.calls)
    ]  # fmt: skip
    message: Json = {"role": "assistant", "content": said.text or None}
    if said.reasoning:
        message["reasoning_content"] = said.reasoning
    if calls:
        message["tool_calls"] = calls
    if not stream:
        choice = {"index": 0, "message": message, "finish_reason": word}
        return [head | {"choices": [choice], "usage": USAGE}]
    head["object"] = "chat.completion.chunk"
    deltas: list[tuple[Json, str | None]] = [(message, None), ({}, word)]
    chunks = [
        head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        for delta, finish in deltas
    ]
    return [*chunks, head | {"choices": [], "usage": USAGE}]


def _anthropic(said: Said, stream: bool) -> list[Json]:
    message: Json = {
        "id": "m", "type": "message", "role": "assistant", "model": "c", "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }  # fmt: skip
    blocks: list[Json] = []
    if said.reasoning:
        blocks.append({"type": "thinking", "thinking": said.reasoning, "signature": "s"})
    if said.text:
        blocks.append({"type": "text", "text": said.text})
    for at, (name, arguments) in enumerate(said.calls):
        given = json.loads(arguments)
        blocks.append({"type": "tool_use", "id": f"t{at}", "name": name, "input": given})
    word = WORDS[said.end][CLAUDE]
    if not stream:
        return [message | {"content": blocks, "stop_reason": word}]
    events: list[Json] = [
        {"type": "message_start", "message": message | {"content": [], "stop_reason": None}}
    ]
    for at, block in enumerate(blocks):
        empty = {"thinking": "", "text": "", "input": {}}
        begun = {key: empty.get(key, value) for key, value in block.items() if key != "signature"}
        events.append({"type": "content_block_start", "index": at, "content_block": begun})
        for delta in _deltas(block):
            events.append({"type": "content_block_delta", "index": at, "delta": delta})
        events.append({"type": "content_block_stop", "index": at})
    end = {"stop_reason": word, "stop_sequence": None}
    events.append({"type": "message_delta", "delta": end, "usage": {"output_tokens": 5}})
    return [*events, {"type": "message_stop"}]


def _deltas(block: Json) -> Iterator[Json]:
    if block["type"] == "text":
        yield {"type": "text_delta", "text": block["text"]}
    elif block["type"] == "thinking":
        yield {"type": "thinking_delta", "thinking": block["thinking"]}
        yield {"type": "signature_delta", "signature": "s"}
    else:
        yield {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}


def _gemini(said: Said, stream: bool) -> list[Json]:
    parts: list[Json] = []
    if said.reasoning:
        parts.append({"text": said.reasoning, "thought": True})
    if said.text:
        parts.append({"text": said.text})
    parts += [
        {"functionCall": {"name": name, "args": json.loads(arguments)}}
        for name, arguments in said.calls
    ]
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
    end = {"finishReason": WORDS[said.end][GEMINI]}
    content = {"content": {"role": "model", "parts": parts}}
    if stream and parts:
        return [{"candidates": [content]}, {"candidates": [end], "usageMetadata": usage}]
    return [{"candidates": [content | end], "usageMetadata": usage}]


_FORMS = {GPT: _openai, MISTRAL: _mistral, CLAUDE: _anthropic, GEMINI: _gemini}


def _body(events: list[Json], stream: bool, model: str) -> bytes:
    if not stream:
        return json.dumps(events[0]).encode()
    named = model == CLAUDE
    lines = [
        (f"event: {event.get('type')}\n" if named else "") + f"data: {json.dumps(event)}\n\n"
        for event in events
    ]
    done = "data: [DONE]\n\n" if model in (GPT, MISTRAL) else ""
    return "".join([*lines, done]).encode("utf-8", "replace")


# --- damage -----------------------------------------------------------------------------------


def _cut(random: Random, events: list[Json], stream: bool, model: str) -> bytes:
    body = _body(events, stream, model)
    return body[: random.randrange(len(body))]


def _junk_event(random: Random, events: list[Json], stream: bool, model: str) -> bytes:
    junk: list[Any] = [
        *JUNK, {"choices": None}, {"choices": [None]}, {"choices": [{"delta": None}]},
        {"choices": [{"delta": {"role": "user"}}]}, {"type": "ping"}, {"usage": None},
        {"error": {"message": "no room"}}, {"candidates": [None]}, {"type": "content_block_delta"},
    ]  # fmt: skip
    events.insert(random.randrange(len(events) + 1), random.choice(junk) if stream else {})
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    return "".join(lines).encode() if stream else _body(events, stream, model)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container of the value with each of its keys."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _wrong_type(random: Random, events: list[Json], stream: bool, model: str) -> bytes:
    container, key = random.choice(list(_places(events)))
    container[key] = random.choice(JUNK)
    return _damaged(events, stream, model)


def _without(random: Random, events: list[Json], stream: bool, model: str) -> bytes:
    container, key = random.choice(list(_places(events)))
    del container[key]
    return _damaged(events, stream, model)


def _damaged(events: list[Any], stream: bool, model: str) -> bytes:
    if not events or not all(isinstance(event, dict) for event in events):
        return json.dumps(events).encode()
    return _body(events, stream, model)


def _noise(random: Random, events: list[Json], stream: bool, model: str) -> bytes:
    body = bytearray(_body(events, stream, model))
    for _ in range(random.randrange(1, 6)):
        body[random.randrange(len(body))] = random.randrange(256)
    return bytes(body)


# --- a server ---------------------------------------------------------------------------------


@contextmanager
def serving(answers: list[Odd]) -> Iterator[str]:
    """The base of a server. A request with the header `x-case` gets the answer of that number: with
    a base for each, litellm would make a client for each."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.wfile.write(answers[int(self.headers["x-case"])].http)
            self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

        def handle_error(self, *arguments: object) -> None:
            pass  # the client has gone

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
