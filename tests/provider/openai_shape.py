"""Answers as OpenAI's chat completions send them.

Source: https://platform.openai.com/docs/api-reference/chat and …/chat-streaming.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from provider.script import Answer, Usage, arguments_text, cut

PATH = "/v1/chat/completions"
Json = dict[str, Any]


def body(answer: Answer, request: Json, number: int) -> Json:
    """The whole answer in one piece."""
    message: Json = {"role": "assistant", "content": answer.whole_text() or None, "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": call.id or f"call_stub_{number}_{place}",
                "type": "function",
                "function": {"name": call.name, "arguments": arguments_text(call)},
            }
            for place, call in enumerate(answer.calls)
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish(answer)}
    whole = _head("chat.completion", request, number) | {"choices": [choice]}
    return whole | ({"usage": usage(answer.usage)} if answer.usage else {})


def events(answer: Answer, request: Json, number: int) -> Iterator[bytes]:
    """The answer as server-sent events, the first with the role, the last but one with the usage
    if the request asks for it, the last being [DONE]."""
    head = _head("chat.completion.chunk", request, number)
    wants_usage = (request.get("stream_options") or {}).get("include_usage")
    filler: Json = {"usage": None} if wants_usage else {}

    def chunk(delta: Json, reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return event(head | {"choices": [choice]} | filler)

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    for piece in cut(answer.reasoning, answer.pieces):
        yield chunk({"reasoning_content": piece})
    for piece in cut(answer.whole_text(), answer.pieces):
        yield chunk({"content": piece})
    for place, call in enumerate(answer.calls):
        function = {"name": call.name, "arguments": ""}
        name = call.id or f"call_stub_{number}_{place}"
        first = {"index": place, "id": name, "type": "function", "function": function}
        yield chunk({"tool_calls": [first]})
        for piece in cut(arguments_text(call), answer.pieces):
            yield chunk({"tool_calls": [{"index": place, "function": {"arguments": piece}}]})
    yield chunk({}, finish(answer))
    if wants_usage and answer.usage:
        yield event(head | {"choices": [], "usage": usage(answer.usage)})
    yield b"data: [DONE]\n\n"


def event(data: Json) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def finish(answer: Answer) -> str:
    return answer.finish or ("tool_calls" if answer.calls else "stop")


def usage(counts: Usage) -> Json:
    return {
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.completion,
        "total_tokens": counts.prompt + counts.completion,
        "prompt_tokens_details": {"cached_tokens": counts.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning, "audio_tokens": 0},
    }


def _head(kind: str, request: Json, number: int) -> Json:
    return {
        "id": f"chatcmpl-stub{number}",
        "object": kind,
        "created": int(time.time()),
        "model": request.get("model", ""),
        "system_fingerprint": "fp_stub",
    }
