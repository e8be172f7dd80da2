"""Anthropic's rules for the body of a message request.

Source: https://platform.claude.com/docs/en/api/messages, …/tool-use/handle-tool-calls (results
come first, directly after their calls) and …/extended-thinking; and the words of its refusals.
"Consecutive `user` or `assistant` turns in your request will be combined into a single turn": so
they may follow each other, except that one message holds all results of a turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

ID = re.compile(r"[a-zA-Z0-9_-]+")
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
BLOCKS = {
    "user": ("text", "image", "document", "tool_result"),
    "assistant": ("text", "tool_use", "thinking", "redacted_thinking"),
}
THINKING = ("thinking", "redacted_thinking")
IN_RESULTS = ("text", "image", "document")
MOST_MARKS = 4

Block = dict[str, Any]


def anthropic_problems(body: dict[str, Any]) -> list[str]:
    """Everything that is wrong with a request."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return ["messages: at least one message is required"]
    wrong = [at for at, one in enumerate(messages) if not _readable(one)]
    if wrong:
        return [f"messages.{at}: no role of user or assistant, or no content" for at in wrong]
    blocks = [_blocks(message) for message in messages]
    roles = [str(message["role"]) for message in messages]
    return [
        *_head(body),
        *([] if roles[0] == "user" else ["messages: first message must use the 'user' role"]),
        *_each(roles, blocks),
        *_results(roles, blocks),
        *_last(roles[-1], blocks[-1]),
        *_thinking(body, roles, blocks),
        *_tools(body, blocks),
        *_marks(body),
    ]


def _readable(message: Any) -> bool:
    if not isinstance(message, dict) or message.get("role") not in BLOCKS:
        return False
    content = message.get("content")
    whole = isinstance(content, list) and all(isinstance(one, dict) for one in content)
    return isinstance(content, str) or whole


def _blocks(message: dict[str, Any]) -> list[Block]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _head(body: dict[str, Any]) -> Iterator[str]:
    if not isinstance(body.get("model"), str):
        yield "model: Field required"
    if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] < 1:
        yield "max_tokens: Field required"
    system = body.get("system", "none")
    for block in system if isinstance(system, list) else [{"type": "text", "text": system}]:
        if not isinstance(block, dict) or not _has_text(block):
            yield "system: text content blocks must be non-empty"


def _each(roles: list[str], blocks: list[list[Block]]) -> Iterator[str]:
    """Each block by itself."""
    used: set[str] = set()
    for number, (role, content) in enumerate(zip(roles, blocks, strict=True)):
        if not content and not (number == len(roles) - 1 and role == "assistant"):
            yield f"messages.{number}: all messages must have non-empty content"
        for place, block in enumerate(content):
            at = f"messages.{number}.content.{place}"
            kind = block.get("type")
            if kind not in BLOCKS[role]:
                yield f"{at}: a message of role {role!r} has a block of type {kind!r}"
            elif kind == "text" and not _has_text(block):
                yield f"{at}: text content blocks must contain non-whitespace text"
            elif kind == "tool_use":
                yield from _tool_use(at, block)
                if block.get("id") in used:
                    yield f"{at}: `tool_use` ids must be unique; {block['id']!r} is used again"
                used.add(str(block.get("id")))
            elif kind == "tool_result":
                yield from _tool_result(at, block)
            elif kind == "thinking" and not (block.get("signature") and block.get("thinking")):
                yield f"{at}: a thinking block keeps its thinking and its signature"


def _tool_use(at: str, block: Block) -> Iterator[str]:
    if not ID.fullmatch(str(block.get("id") or "")):
        yield f"{at}.id: {block.get('id')!r} does not match ^{ID.pattern}$"
    if not NAME.fullmatch(str(block.get("name") or "")):
        yield f"{at}.name: {block.get('name')!r} does not match ^{NAME.pattern}$"
    if not isinstance(block.get("input"), dict):
        yield f"{at}.input: Input should be a valid dictionary"


def _tool_result(at: str, block: Block) -> Iterator[str]:
    content = block.get("content")
    if content is None or isinstance(content, str):
        return
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in IN_RESULTS:
            yield f"{at}.content: a tool_result holds no block of type {kind!r}"
        elif kind == "text" and not _has_text(part):
            yield f"{at}.content: text content blocks must be non-empty"
        elif kind != "text" and block.get("is_error"):
            yield f"{at}.content: all content must be type text if is_error is true"


def _results(roles: list[str], blocks: list[list[Block]]) -> Iterator[str]:
    """The message after a turn with calls begins with the results of all of them."""
    waiting: list[str] = []
    for number, (role, content) in enumerate(zip(roles, blocks, strict=True)):
        kinds = [block.get("type") for block in content]
        found = [str(one.get("tool_use_id")) for one in content if one["type"] == "tool_result"]
        missing = [name for name in waiting if name not in found]
        if missing:
            yield (
                f"messages.{number}: `tool_use` ids were found without `tool_result` blocks "
                f"immediately after: {', '.join(missing)}"
            )
        for name in found:
            if name not in waiting:
                yield f"messages.{number}: unexpected `tool_use_id` in `tool_result`: {name}"
            elif found.count(name) > 1:
                yield f"messages.{number}: each tool_use must have a single result: {name}"
        if "tool_result" in kinds[len(found) :]:
            yield f"messages.{number}: tool_result blocks must come before all other content"
        waiting = [str(one.get("id")) for one in content if one["type"] == "tool_use"]
        if "tool_use" in kinds and role == "assistant":
            after = kinds[kinds.index("tool_use") :]
            if any(kind != "tool_use" for kind in after):
                yield f"messages.{number}: something comes after its tool_use blocks"
    if waiting:
        yield (
            f"messages.{len(roles) - 1}: `tool_use` ids were found without `tool_result` blocks "
            f"immediately after: {', '.join(waiting)}"
        )


def _last(role: str, content: list[Block]) -> Iterator[str]:
    if role == "assistant" and content and content[-1].get("type") == "text":
        text = str(content[-1].get("text"))
        if text != text.rstrip():
            yield "messages: final assistant content cannot end with trailing whitespace"


def _thinking(body: dict[str, Any], roles: list[str], blocks: list[list[Block]]) -> Iterator[str]:
    """While calls are answered, the turn that made them keeps its thinking, at its beginning."""
    for number, content in enumerate(blocks):
        kinds = [block.get("type") for block in content]
        first = next((at for at, kind in enumerate(kinds) if kind not in THINKING), len(kinds))
        if any(kind in THINKING for kind in kinds[first:]):
            yield f"messages.{number}: thinking blocks come before all other content"
    setting = body.get("thinking")
    enabled = isinstance(setting, dict) and setting.get("type") == "enabled"
    if not enabled or "assistant" not in roles:
        return
    last = len(roles) - 1 - roles[::-1].index("assistant")
    calls = any(block.get("type") == "tool_use" for block in blocks[last])
    if calls and blocks[last][0].get("type") not in THINKING:
        yield (
            f"messages.{last}.content.0.type: Expected `thinking` or `redacted_thinking`, but "
            f"found `{blocks[last][0].get('type')}`. When `thinking` is enabled, a final "
            f"`assistant` message must start with a thinking block"
        )


def _tools(body: dict[str, Any], blocks: list[list[Block]]) -> Iterator[str]:
    tools = body.get("tools")
    spoken = {block.get("type") for content in blocks for block in content}
    if not tools:
        if spoken & {"tool_use", "tool_result"}:
            yield "tools: requests with tool_use or tool_result blocks must define tools"
        return
    names: set[str] = set()
    for place, tool in enumerate(tools):
        name = tool.get("name") if isinstance(tool, dict) else None
        if not NAME.fullmatch(str(name or "")):
            yield f"tools.{place}.name: {name!r} does not match ^{NAME.pattern}$"
            continue
        if name in names:
            yield f"tools: Tool names must be unique: {name}"
        names.add(str(name))
        schema = tool.get("input_schema")
        if not isinstance(schema, dict) or schema.get("type") != "object":
            yield f"tools.{place}.input_schema.type: Field required, and must be object"


def _marks(value: Any) -> list[str]:
    def count(value: Any) -> int:
        if isinstance(value, dict):
            return ("cache_control" in value) + sum(map(count, value.values()))
        return sum(map(count, value)) if isinstance(value, list) else 0

    found = count(value)
    most = f"A maximum of {MOST_MARKS} blocks with cache_control may be provided. Found {found}."
    return [most] if found > MOST_MARKS else []


def _has_text(block: Block) -> bool:
    return bool(str(block.get("text") or "").strip())
