"""The history in OpenAI's format, which litellm translates for other providers.

It also changes what a provider would refuse:

- Consecutive messages of the user become one, because some models' templates need turns.
- An answer without text and calls is left out, and so is blank text beside calls.
- Arguments of a call that are not a JSON object become `{"malformed_arguments": TEXT}`.
- A tool name that providers refuse (not `[a-zA-Z0-9_-]`, or longer than 64) gets underscores. Only
  a model that invents tools uses such a name.
- The provider state of another model (signed thinking) is not sent to this one.

Images in tool results are parts of their content. The model process leaves them out for a model
that does not accept images, and litellm puts them where the provider expects them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from sandbox_agent_ipc.messages import Image, ToolSpec

from sandbox_agent.journal.events import ToolCall
from sandbox_agent.journal.history import (
    AssistantMessage,
    Message,
    ToolMessage,
    UserMessage,
    starts_with,
)

LONGEST_DESCRIPTION = 1024
"""Characters of a tool's description. OpenAI refuses longer ones."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_BLANK = "(empty)"

_STATE = ("thinking_blocks", "reasoning_content", "reasoning_details", "reasoning_items",
         "provider_specific_fields")  # fmt: skip
_CALL_STATE = ("provider_specific_fields", "extra_content")
"""Fields of provider_state that litellm reads or passes on. No other field is sent back."""

_NINE_CHARACTER_IDS = re.compile(
    r"mistral|mixtral|codestral|devstral|magistral|ministral|pixtral", re.IGNORECASE
)
"""Models that require call ids of nine letters and digits."""

_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(dict[str, Any]).decode


class Wire:
    """Encodes one conversation for one model. Each message is encoded once, while the history
    grows.

    model: its name; the provider state of other models is not sent to it. system: the system
    prompt."""

    def __init__(self, model: str, system: str) -> None:
        self._model = model
        self._has_nine_character_ids = bool(_NINE_CHARACTER_IDS.search(model))
        self._system = _encode({"role": "system", "content": system}) if system else b""
        self._encoded: dict[int, tuple[Message, bytes]] = {}
        self._specs: Sequence[ToolSpec] = ()
        self._tools = b""
        self._reset()

    def _reset(self) -> None:
        self._seen: Sequence[Message] = ()
        self._body = bytearray(self._system)
        self._user: list[str] = []  # the user's last messages, which may get more

    def messages(self, history: Sequence[Message]) -> bytes:
        """The JSON array of `messages`."""
        if not starts_with(history, self._seen):
            self._reset()
            # In a history that was shortened, most messages are the same.
            same = {id(message) for message in history}
            self._encoded = {key: pair for key, pair in self._encoded.items() if key in same}
        for place in range(len(self._seen), len(history)):
            self._take(history[place])
        self._seen = history
        last = _user(self._user) if self._user else b""
        comma = b"," if last and self._body else b""
        return b"".join((b"[", self._body, comma, last, b"]"))

    def tools(self, specs: Sequence[ToolSpec]) -> bytes:
        """The JSON array of `tools`; b"" if there are none."""
        if specs is not self._specs and tuple(specs) != self._specs:
            self._specs = tuple(specs)
            self._tools = _encode([_tool(spec) for spec in specs]) if specs else b""
        return self._tools

    def _take(self, message: Message) -> None:
        if isinstance(message, UserMessage):
            self._user.append(message.text)
            return
        if isinstance(message, AssistantMessage) and _is_empty(message):
            return
        if self._user:
            self._append(_user(self._user))
            self._user = []
        known = self._encoded.get(id(message))
        if known is None:
            # The pair holds the message, so that no other message can get its id.
            known = self._encoded[id(message)] = (message, self._message(message))
        self._append(known[1])

    def _append(self, encoded: bytes) -> None:
        if self._body:
            self._body += b","
        self._body += encoded

    # --- messages ----------------------------------------------------------------------------

    def _message(self, message: AssistantMessage | ToolMessage) -> bytes:
        if isinstance(message, ToolMessage):
            return self._result(message)
        encoded: dict[str, Any] = {"role": "assistant", "content": message.text}
        if not message.text.strip():
            encoded["content"] = None
        same_model = message.model == self._model
        if same_model:
            encoded |= {
                key: message.provider_state[key] for key in _STATE if key in message.provider_state
            }
        if message.calls:
            encoded["tool_calls"] = [self._call(call, same_model) for call in message.calls]
        return _encode(encoded)

    def _call(self, call: ToolCall, same_model: bool) -> dict[str, Any]:
        function = {"name": tool_name(call.tool), "arguments": _arguments(call.arguments)}
        encoded: dict[str, Any] = {
            "id": self._id(call.id),
            "type": "function",
            "function": function,
        }
        if same_model:
            encoded |= {
                key: call.provider_state[key] for key in _CALL_STATE if key in call.provider_state
            }
        return encoded

    def _result(self, message: ToolMessage) -> bytes:
        content: Any = message.content if message.content.strip() else _BLANK
        if message.images:
            content = [{"type": "text", "text": content}, *map(_image, message.images)]
        encoded = {"role": "tool", "tool_call_id": self._id(message.call_id), "content": content}
        return _encode(encoded)

    def _id(self, name: str) -> str:
        return (
            hashlib.sha256(name.encode()).hexdigest()[:9] if self._has_nine_character_ids else name
        )


def _image(image: Image) -> dict[str, Any]:
    data = base64.b64encode(image.data).decode()
    url = f"data:{image.media_type};base64,{data}"
    return {"type": "image_url", "image_url": {"url": url}}


def tool_name(name: str) -> str:
    """The tool name in the form that providers accept. The same name always gives the same form."""
    if _NAME.fullmatch(name):
        return name
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64] or "unnamed"


def _user(texts: list[str]) -> bytes:
    said = "\n\n".join(text for text in texts if text.strip())
    return _encode({"role": "user", "content": said or _BLANK})


def _is_empty(message: AssistantMessage) -> bool:
    return not message.calls and not message.text.strip()


def _arguments(arguments: dict[str, Any] | str) -> str:
    """The text of a JSON object, whatever the model wrote."""
    if not isinstance(arguments, str):
        return _encode(arguments).decode()
    if not arguments.strip():
        return "{}"
    try:
        _object(arguments)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _encode({"malformed_arguments": arguments}).decode()
    return arguments


def _tool(spec: ToolSpec) -> dict[str, Any]:
    description = spec.description
    if len(description) > LONGEST_DESCRIPTION:
        description = description[: LONGEST_DESCRIPTION - 4] + " ..."
    parameters = {"type": "object", "properties": {}} | spec.parameters
    function = {"name": spec.name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}
