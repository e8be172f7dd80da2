"""What litellm is asked, in both providers' ways, and what the stub answers to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from provider.anthropic_shape import sign
from provider.script import Answer, End, Fault, Kind, ToolCall, Usage
from provider.stub import Stub

Json = dict[str, Any]

PROVIDERS = ("openai", "anthropic")
MODELS = {"openai": "openai/local-model", "anthropic": "anthropic/claude-sonnet-4-5"}
KEY = "sk-test-1234567890abcd"
TEXT = "hello there, world"
THOUGHT = "let me think about it"
LONG = 8_000_009
"""Characters of the huge answer; a prime number, so that no two of its pieces are the same."""

USER: Json = {"role": "user", "content": "go on"}
SCHEMA = {"type": "object", "properties": {"command": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "shell", "parameters": SCHEMA}}]
PNG = "data:image/png;base64,iVBORw0KGgo="


@dataclass(frozen=True)
class Case:
    """arguments: for acompletion, beside the usual ones."""

    answer: Answer
    stream: bool = True
    arguments: Json = field(default_factory=dict)


def _calls(*calls: ToolCall) -> Answer:
    return Answer(calls=calls)


_FULL = Answer(
    text=TEXT,
    reasoning=THOUGHT,
    calls=(ToolCall("shell", {"command": "ls"}), ToolCall("shell", {"command": "pwd"})),
    usage=Usage(100, 20, 60, 7),
)
_LATER = 5
"""Events of a stream after which some of the text has come, and the finish reason has not."""

CASES: dict[str, Case] = {
    "full": Case(_FULL),
    "full at once": Case(_FULL, stream=False),
    "empty": Case(Answer()),
    "length": Case(Answer(text=TEXT, finish="length")),
    "same id": Case(_calls(ToolCall("shell", {}, "a"), ToolCall("shell", {"command": "x"}, "a"))),
    "malformed arguments": Case(_calls(ToolCall("shell", '{"command": '))),
    "no arguments": Case(_calls(ToolCall("shell", ""))),
    "cut call": Case(
        Answer(calls=(ToolCall("shell", {"command": "rm -r x"}),), end=End.SHORT, after=4)
    ),
    **{
        f"{end}": Case(Answer(text=TEXT, pieces=6, end=end, after=_LATER))
        for end in (End.SHORT, End.BAD_JSON, End.BAD_SSE, End.CLOSE, End.RESET)
    },
    **{
        f"{end} at once": Case(Answer(text=TEXT, end=end), stream=False)
        for end in (End.SHORT, End.CLOSE, End.RESET)
    },
    **{f"fault {kind}": Case(Answer(fault=Fault(kind))) for kind in Kind},
    "fault later": Case(
        Answer(text=TEXT, pieces=6, after=_LATER, fault=Fault(Kind.OVERLOADED)),
    ),
    "retry after": Case(Answer(fault=Fault(Kind.RATE_LIMIT, retry_after="7"))),
    "retry after date": Case(
        Answer(fault=Fault(Kind.RATE_LIMIT, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"))
    ),
    "huge": Case(Answer(text="0123456789abc", repeat=LONG // 13, pieces=101)),
    "never": Case(Answer(hold_at=0), arguments={"timeout": 0.5}),
    "stalled": Case(Answer(text=TEXT, pieces=6, hold_at=_LATER), arguments={"timeout": 0.5}),
    "given up before": Case(Answer(hold_at=0), arguments={"give_up": 0.3}),
    "given up at once": Case(Answer(hold_at=0), stream=False, arguments={"give_up": 0.3}),
    "given up in the middle": Case(
        Answer(text=TEXT, end=End.ENDLESS, pause=0.01), arguments={"give_up": 0.3}
    ),
    "wrong base": Case(Answer(), arguments={"api_base": "{address}/nothing"}),
    "nobody there": Case(Answer(), arguments={"api_base": "http://127.0.0.1:1"}),
}

_ASKED: Json = {
    "role": "assistant",
    "content": "I look",
    "tool_calls": [
        {"id": id, "type": "function", "function": {"name": "shell", "arguments": "{}"}}
        for id in ("call_1_0", "call_1_1")
    ],
}
_THOUGHT = {"type": "thinking", "thinking": THOUGHT, "signature": sign(THOUGHT)}
_IMAGE = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": PNG}}]


def _history(first: Any = "one", **asked: Any) -> list[Json]:
    return [
        USER,
        _ASKED | asked,
        {"role": "tool", "tool_call_id": "call_1_0", "content": first},
        {"role": "tool", "tool_call_id": "call_1_1", "content": "two"},
    ]


HISTORIES: dict[str, list[Json]] = {
    "results last": _history(),
    "a word after": [*_history(), USER],
    "system": [{"role": "system", "content": "be brief"}, USER],
    "image": _history(_IMAGE),
    "interrupted twice": [USER, USER],
}
CASES |= {
    name: Case(Answer(text="fine"), arguments={"messages": messages})
    for name, messages in HISTORIES.items()
}
THINKING = {
    "messages": _history(thinking_blocks=[_THOUGHT]),
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "max_tokens": 2048,
}
"""Of Anthropic only."""


def arguments(case: Case, provider: str, name: str, stub: Stub) -> Json:
    """For acompletion. The stub knows the case by a header, so that model names may be real."""
    base = stub.openai_base if provider == "openai" else stub.anthropic_base
    usual: Json = {
        "model": MODELS[provider],
        "messages": [USER],
        "tools": TOOLS,
        "api_base": base,
        "api_key": KEY,
        "stream": case.stream,
        "extra_headers": {"x-case": name},
    }
    if case.stream:
        usual["stream_options"] = {"include_usage": True}
    return {
        name: value.format(address=stub.address) if name == "api_base" else value
        for name, value in (usual | case.arguments).items()
    }
