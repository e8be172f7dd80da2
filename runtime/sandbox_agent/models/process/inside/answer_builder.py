"""Builds an answer from its pieces, whatever they are.

litellm's own builder is not used: it doubles signed thinking, and turns arguments that were cut off
into {} (https://github.com/BerriAI/litellm, `stream_chunk_builder`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sandbox_agent_ipc.model_messages import AnswerCall, Piece
from sandbox_agent_sandbox.utf8 import utf8_size

from .sanitize import clean, json_data

_NOT_STATE = {"id", "type", "index", "function", "custom"}
"""Fields of a call that are not part of its provider_state. The rest goes back to the provider."""

_CALL_BYTES = 64
"""What a call counts as beside its text, so that an endless stream of empty calls ends too."""


class AnswerTooLong(Exception):
    """The answer has more bytes than `Ask.answer_limit`."""


class _Call:
    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []
        self.provider_state: dict[str, Any] = {}

    def is_whole(self) -> bool:
        """Whether its arguments are a complete JSON object."""
        if not self.arguments or not self.arguments[-1].rstrip().endswith("}"):
            return False
        try:
            _read_object(clean("".join(self.arguments)))
        except (ValueError, RecursionError):
            return False
        return True


_read_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class AnswerBuilder:
    """An answer that is arriving. tell: called with each piece. limit: bytes of all pieces
    together."""

    def __init__(self, tell: Callable[[Piece], None], limit: int) -> None:
        self._tell = tell
        self._limit = limit
        self._size = 0
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Call] = []
        self._open: dict[Any, _Call] = {}
        self._thinking: list[dict[str, Any]] = []
        self._unsigned: list[str] = []
        self._fields: dict[str, Any] = {}
        self._details: list[dict[str, Any]] = []
        self._refusal = ""

    def add(self, delta: Any, *, whole: bool = False) -> bool:
        """Adds a delta of a stream, or a whole message. Returns whether it had any content.

        Raises AnswerTooLong.
        """
        before = self._size
        self._add_text("reasoning", self._reasoning, getattr(delta, "reasoning_content", None))
        for block in getattr(delta, "thinking_blocks", None) or ():
            self._add_thinking(json_data(block))
        self._add_text("text", self._text, getattr(delta, "content", None))
        self.add_refusal(getattr(delta, "refusal", None))
        for place, call in enumerate(getattr(delta, "tool_calls", None) or ()):
            # Calls of a whole message have no index.
            self._add_call(call, place if whole else getattr(call, "index", None))
        function = getattr(delta, "function_call", None)  # OpenAI's old field, for one call
        if function is not None:
            self._add_part(self._opened(None, "", function), function)
        self._add_fields(delta)
        return self._size > before

    def add_text(self, text: str) -> None:
        """Adds text that no delta has."""
        self._add_text("text", self._text, text)

    def add_refusal(self, text: Any) -> None:
        """Adds what the model said in the field in which it refuses."""
        if isinstance(text, str) and text:
            self._refusal += text
            self._add_text("text", self._text, text)

    @property
    def refusal(self) -> str:
        """The part of the text that refuses; blank if the model did not refuse."""
        return clean(self._refusal)

    @property
    def text(self) -> str:
        return clean("".join(self._text))

    @property
    def reasoning(self) -> str:
        return clean("".join(self._reasoning))

    @property
    def calls(self) -> list[AnswerCall]:
        return [
            AnswerCall(clean(call.name), clean("".join(call.arguments)), call.provider_state)
            for call in self._calls
        ]

    @property
    def calls_are_whole(self) -> bool:
        """Whether the arguments of every call are a complete JSON object, or there are none."""
        return all(call.is_whole() for call in self._calls)

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come."""
        return not (self._text or self._reasoning or self._calls)

    def provider_state(self, *, reasoning: bool) -> dict[str, Any]:
        """What this provider wants back with the turn. reasoning: whether it wants the
        reasoning."""
        found: dict[str, Any] = {}
        if self._thinking:
            found["thinking_blocks"] = self._thinking
        if self._fields:
            found["provider_specific_fields"] = self._fields
        if self._details:
            found["reasoning_details"] = self._details
        if reasoning and self._reasoning:
            found["reasoning_content"] = self.reasoning
        return found

    # --- parts -------------------------------------------------------------------------------

    def _add_text(self, kind: str, parts: list[str], text: Any) -> None:
        if not text:
            return
        text = text if isinstance(text, str) else str(text)
        self._count(utf8_size(text))
        parts.append(text)
        self._tell(Piece(kind, clean(text)))

    def _add_thinking(self, block: Any) -> None:
        """Anthropic signs a block in its last piece, which repeats the whole text. Bedrock sends
        the signature without text. No provider wants a block without signature back."""
        if not isinstance(block, dict):
            return
        self._count(sum(utf8_size(value) for value in block.values() if isinstance(value, str)))
        if block.get("type") == "redacted_thinking":
            self._thinking.append(block)
        elif block.get("signature"):
            whole = block.get("thinking") or "".join(self._unsigned)
            self._thinking.append(block | {"thinking": whole})
            self._unsigned.clear()
        else:
            self._unsigned.append(clean(block.get("thinking")))

    def _add_call(self, delta: Any, index: Any) -> None:
        part = getattr(delta, "function", None) or getattr(delta, "custom", None)
        call = self._opened(index, clean(getattr(delta, "id", None)), part)
        self._add_part(call, part)
        for key, value in (getattr(delta, "model_extra", None) or {}).items():
            if key not in _NOT_STATE and value is not None:
                value = json_data(value)
                self._count(_size(value))
                call.provider_state[clean(key)] = value

    def _opened(self, index: Any, id: str, part: Any) -> _Call:
        """The call that this piece belongs to. Providers should number calls and name each once.
        Some number none, or all with 0, and some repeat the name in each piece."""
        call = self._open.get(index)
        name = clean(getattr(part, "name", None))
        if call is not None and call.name and name:
            other = id != call.id if id and call.id else call.is_whole()
            if other or (call.arguments and name != call.name):
                call = None
        if call is None:
            self._count(_CALL_BYTES)
            call = self._open[index] = _Call()
            self._calls.append(call)
        if id and not call.id:
            self._count(utf8_size(id))
            call.id = id
        return call

    def _add_part(self, call: _Call, part: Any) -> None:
        name = clean(getattr(part, "name", None))
        arguments = getattr(part, "arguments", None) or getattr(part, "input", None)
        if name and name != call.name:
            self._count(utf8_size(name))
            call.name += name
            self._tell(Piece("call", name))
        if arguments:
            text = arguments if isinstance(arguments, str) else str(arguments)
            self._count(utf8_size(text))
            call.arguments.append(text)
            self._tell(Piece("call", clean(text)))

    def _add_fields(self, delta: Any) -> None:
        fields = getattr(delta, "provider_specific_fields", None)
        if isinstance(fields, Mapping):
            for key in _FIELDS_BACK & fields.keys():
                value = json_data(fields[key])
                self._count(_size(value))
                earlier = self._fields.get(key)
                both = isinstance(earlier, list) and isinstance(value, list)
                self._fields[key] = earlier + value if both else value
        details = getattr(delta, "reasoning_details", None)
        for detail in details if isinstance(details, list) else ():
            self._add_detail(json_data(detail))

    def _add_detail(self, detail: Any) -> None:
        """OpenRouter sends the pieces of one detail in sequence, with the same type and index."""
        if not isinstance(detail, dict):
            return
        self._count(_size(detail))
        last = self._details[-1] if self._details else {}
        same = all(last.get(key) == detail.get(key) for key in ("type", "index", "format"))
        if not last or not same or detail.get("index") is None:
            self._details.append(detail)
            return
        for key, value in detail.items():
            if key in _JOINED and isinstance(value, str) and isinstance(last.get(key), str):
                last[key] += value
            elif value is not None:
                last[key] = value

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > self._limit:
            raise AnswerTooLong


_FIELDS_BACK = {"thought_signatures", "server_side_tool_invocations", "compaction_blocks"}
"""The provider_specific_fields of litellm that it reads when they come back."""

_JOINED = ("text", "summary", "data")


def _size(value: Any) -> int:
    """Its size in bytes, roughly."""
    if isinstance(value, str):
        return utf8_size(value)
    if isinstance(value, dict):
        return sum(_size(key) + _size(item) for key, item in value.items())
    if isinstance(value, list):
        return sum(map(_size, value)) + len(value)
    return 8
