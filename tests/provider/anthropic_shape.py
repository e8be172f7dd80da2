"""Answers as Anthropic's Messages API sends them.

Source: https://platform.claude.com/docs/en/api/messages and …/build-with-claude/streaming.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from provider.script import Answer, Usage, arguments_text, cut

PATH = "/v1/messages"
Json = dict[str, Any]


def body(answer: Answer, request: Json, number: int) -> Json:
    """The whole answer in one piece."""
    content: list[Json] = []
    if answer.reasoning:
        signature = sign(answer.reasoning)
        content.append({"type": "thinking", "thinking": answer.reasoning, "signature": signature})
    if answer.text:
        content.append({"type": "text", "text": answer.whole_text()})
    for place, call in enumerate(answer.calls):
        # Its own servers parse before they send; what is no object cannot be said here.
        value = call.arguments if isinstance(call.arguments, dict) else _parsed(call.arguments)
        name = call.id or f"toolu_stub_{number}_{place}"
        content.append({"type": "tool_use", "id": name, "name": call.name, "input": value})
    return _head(request, number) | {
        "content": content,
        "stop_reason": stop_reason(answer),
        "usage": usage(answer.usage or Usage()),
    }


def events(answer: Answer, request: Json, number: int) -> Iterator[bytes]:
    """The answer as server-sent events."""
    counts = answer.usage or Usage()
    first = usage(counts) | {"output_tokens": 1}
    start = _head(request, number) | {"content": [], "stop_reason": None, "usage": first}
    yield event({"type": "message_start", "message": start})
    yield event({"type": "ping"})
    for index, (block, deltas) in enumerate(_blocks(answer, number)):
        yield event({"type": "content_block_start", "index": index, "content_block": block})
        for delta in deltas:
            yield event({"type": "content_block_delta", "index": index, "delta": delta})
        yield event({"type": "content_block_stop", "index": index})
    end = {"stop_reason": stop_reason(answer), "stop_sequence": None}
    total = {"output_tokens": counts.completion}
    yield event({"type": "message_delta", "delta": end, "usage": total})
    yield event({"type": "message_stop"})


def _blocks(answer: Answer, number: int) -> Iterator[tuple[Json, list[Json]]]:
    """Each content block as it is begun, and the deltas that fill it."""
    if answer.reasoning:
        pieces = cut(answer.reasoning, answer.pieces)
        deltas: list[Json] = [{"type": "thinking_delta", "thinking": one} for one in pieces]
        deltas.append({"type": "signature_delta", "signature": sign(answer.reasoning)})
        yield {"type": "thinking", "thinking": "", "signature": ""}, deltas
    if answer.text:
        pieces = cut(answer.whole_text(), answer.pieces)
        yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": one} for one in pieces]
    for place, call in enumerate(answer.calls):
        pieces = ["", *cut(arguments_text(call), answer.pieces)]
        name = call.id or f"toolu_stub_{number}_{place}"
        yield (
            {"type": "tool_use", "id": name, "name": call.name, "input": {}},
            [{"type": "input_json_delta", "partial_json": piece} for piece in pieces],
        )


def event(data: Json) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def stop_reason(answer: Answer) -> str:
    return answer.finish or ("tool_use" if answer.calls else "end_turn")


def usage(counts: Usage) -> Json:
    """Anthropic counts what came from the cache apart."""
    return {
        "input_tokens": counts.prompt - counts.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": counts.cached,
        "output_tokens": counts.completion,
    }


def sign(thinking: str) -> str:
    """A signature that shows, as the real one does, whether the thinking was changed."""
    return "stub-" + hashlib.sha256(thinking.encode()).hexdigest()


def forged(request: Json) -> list[str]:
    """Thinking blocks of a request that do not read as the stub had sent them."""
    return [
        f"messages.{number}.content.{place}: Invalid `signature` in `thinking` block"
        for number, message in enumerate(request.get("messages") or [])
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for place, block in enumerate(message["content"])
        if isinstance(block, dict) and block.get("type") == "thinking"
        if block.get("signature") != sign(str(block.get("thinking")))
    ]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _head(request: Json, number: int) -> Json:
    return {
        "id": f"msg_stub{number}",
        "type": "message",
        "role": "assistant",
        "model": request.get("model", ""),
        "stop_sequence": None,
    }
