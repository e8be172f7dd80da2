"""OpenAI's rules for the messages of a chat completion.

Source: https://platform.openai.com/docs/api-reference/chat/create and the words of its refusals.
Two are ours: arguments are a JSON object, since other providers parse them, and a call's id is
never used again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
ROLES = ("system", "developer", "user", "assistant", "tool")
PARTS = ("text", "image_url", "input_audio", "file", "refusal")
LONGEST_ID = 40
LONGEST_DESCRIPTION = 1024
MOST_TOOLS = 128


def openai_problems(messages: Any, tools: Any = None) -> list[str]:
    """Everything that is wrong with a request's messages and tools."""
    if not isinstance(messages, list) or not messages:
        return ["messages: there must be at least one"]
    return [*_messages(messages), *_order(messages), *_tools(tools)]


def _messages(messages: list[Any]) -> Iterator[str]:
    """Each message by itself."""
    for number, message in enumerate(messages):
        at = f"messages[{number}]"
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            yield f"{at}: its role must be one of {', '.join(ROLES)}"
            continue
        calls = message.get("tool_calls")
        if message["role"] == "assistant":
            if calls is not None:
                yield from _calls(at, calls)
            if not calls and message.get("content") in (None, "", []):
                yield f"{at}: an assistant message needs content or tool_calls"
            if message.get("content") is None:
                continue
        elif calls is not None:
            yield f"{at}: only an assistant message has tool_calls"
        yield from _content(f"{at}.content", message.get("content"), message["role"])


def _content(at: str, content: Any, role: str) -> Iterator[str]:
    if isinstance(content, str):
        return
    if not isinstance(content, list) or not content:
        yield f"{at}: expected a string or an array of parts"
        return
    for place, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in PARTS:
            yield f"{at}[{place}]: a part of type {kind!r}"
        elif kind == "text" and not isinstance(part.get("text"), str):
            yield f"{at}[{place}]: its text is no string"
        elif kind != "text" and role in ("tool", "system", "developer"):
            yield f"{at}[{place}]: a message of role {role!r} takes text only"
        elif kind == "image_url" and role != "user":
            yield f"{at}[{place}]: images come from the user only"


def _calls(at: str, calls: Any) -> Iterator[str]:
    if not isinstance(calls, list) or not calls:
        yield f"{at}.tool_calls: expected an array with at least one"
        return
    for place, call in enumerate(calls):
        where = f"{at}.tool_calls[{place}]"
        if not isinstance(call, dict) or call.get("type") != "function":
            yield f"{where}: its type must be function"
            continue
        name = call.get("id")
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_ID:
            yield f"{where}.id: expected a string of 1 to {LONGEST_ID} characters, got {name!r}"
        function = call.get("function")
        if not isinstance(function, dict) or not _named(function.get("name")):
            yield f"{where}.function.name: does not match ^{NAME.pattern}$"
            continue
        if not _is_object(function.get("arguments")):
            yield f"{where}.function.arguments: no string that holds a JSON object"


def _order(messages: list[Any]) -> Iterator[str]:
    """Results follow their calls, one each, before anything else."""
    open_calls: list[str] = []
    known: set[str] = set()
    asked_at = -1
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            continue
        if message.get("role") == "tool":
            name = message.get("tool_call_id")
            if name in open_calls:
                open_calls.remove(name)
            else:
                yield (
                    f"messages[{number}]: messages with role 'tool' must be a response to a "
                    f"preceding message with 'tool_calls'; nothing waits for {name!r}"
                )
            continue
        yield from _unanswered(open_calls, asked_at)
        open_calls = [name for name in map(_id, message.get("tool_calls") or []) if name]
        asked_at = number
        for name in open_calls:
            if name in known:
                yield f"messages[{number}]: the id {name!r} is used again"
            known.add(name)
    yield from _unanswered(open_calls, asked_at)


def _unanswered(open_calls: list[str], asked_at: int) -> Iterator[str]:
    if open_calls:
        yield (
            f"messages[{asked_at}]: an assistant message with 'tool_calls' must be followed by "
            f"tool messages responding to each 'tool_call_id'; missing: {', '.join(open_calls)}"
        )


def _tools(tools: Any) -> Iterator[str]:
    if tools is None:
        return
    if not isinstance(tools, list) or not 0 < len(tools) <= MOST_TOOLS:
        yield f"tools: expected an array of 1 to {MOST_TOOLS}"
        return
    names: set[str] = set()
    for place, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type") != "function":
            yield f"tools[{place}]: expected a function"
            continue
        name = function.get("name")
        if not _named(name):
            yield f"tools[{place}].function.name: {name!r} does not match ^{NAME.pattern}$"
        elif name in names:
            yield f"tools[{place}].function.name: {name!r} is there twice"
        names.add(str(name))
        if len(function.get("description") or "") > LONGEST_DESCRIPTION:
            yield f"tools[{place}].function.description: over {LONGEST_DESCRIPTION} characters"
        parameters = function.get("parameters", {"type": "object"})
        if not isinstance(parameters, dict) or parameters.get("type") != "object":
            yield f"tools[{place}].function.parameters: expected a schema of type 'object'"


def _id(call: Any) -> str:
    return str(call.get("id") or "") if isinstance(call, dict) else ""


def _named(name: Any) -> bool:
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def _is_object(text: Any) -> bool:
    try:
        return isinstance(text, str) and isinstance(json.loads(text), dict)
    except ValueError:
        return False
