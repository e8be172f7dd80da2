"""Reads from a response's bytes how its provider says that the answer ended.

litellm maps the words of all providers to OpenAI's, and maps every word that it does not know to
"stop" (`map_finish_reason`, https://github.com/BerriAI/litellm). So an answer that was paused, or
cut by a limit that is new, would look whole. Where it keeps the provider's own word depends on the
provider, and for most it keeps none. So the word is read here, as the bytes arrive.

Understood are one JSON value, JSON lines, server-sent events and Amazon's event stream. In all of
them the word has a place that only the provider writes: text of the model cannot forge it.

Sources: https://html.spec.whatwg.org/multipage/server-sent-events.html, and the API references of
OpenAI, Anthropic, Google, Cohere, Ollama, Amazon Bedrock and Hugging Face's text generation.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from .sanitize import clean

_AMAZON = re.compile(rb'"stopReason"\s*:\s*"([^"\\]*)"|"bytes"\s*:\s*"([A-Za-z0-9+/=]+)"')
"""In a frame of Amazon's event stream. A quote inside JSON text has a backslash before it."""

_LONGEST_FRAME = 64 * 1024
"""Bytes of Amazon's event stream in which the word is looked for."""

_NOTHING_YET = frozenset({"", "null", "none", "not_finished", "finish_reason_unspecified"})
"""Words that stand for no word."""


class OwnEnd:
    """How one body says that its answer ended. `feed` its bytes, then call `close`.

    word: the provider's word for the end; "" if the body has none. is_blocked: the word says why
    the prompt was blocked. is_marked: the end of the answer is marked without a word: `[DONE]`, or
    a body in one piece. is_known: answers of this form have a word or a mark. error: the words of
    an error in the place of an answer. refusal: what the model said in OpenAI's field for refusals.
    partial: text of an answer that the provider's filter stopped, which litellm throws away.
    is_mixed: a stream holds pieces of several answers (`n` in OpenAI's API).
    """

    def __init__(self) -> None:
        self.word = ""
        self.is_blocked = False
        self.is_marked = False
        self.is_known = False
        self.error = ""
        self.refusal = ""
        self.partial = ""
        self.is_mixed = False
        self._number: Any = None  # of the choice that a stream is about
        self._form = ""  # "json", "lines" or "amazon", once it is known
        self._pending = bytearray()
        self._event: list[bytes] = []  # the data lines of an event that is not complete

    @property
    def came_at_once(self) -> bool:
        """Whether the body is an answer in one piece."""
        return self.is_known and self._form in ("json", "value")

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of the body."""
        self._pending += data
        if not self._form:
            self._form = _form_of(self._pending)
        if self._form == "amazon":
            self._take_amazon()
        elif b"\n" not in data:
            return
        elif self._form == "lines":
            self._take_lines()
        elif self._form == "json":
            # JSON lines, if the first line is a whole value. Else a value of several lines.
            first, _, rest = bytes(self._pending).lstrip().partition(b"\n")
            if _object(first) is not None:
                self._form = "lines"
                self._pending = bytearray(first + b"\n" + rest)
                self._take_lines()
            else:
                self._form = "value"

    def close(self) -> None:
        """The body is complete, or no more of it will come."""
        rest, self._pending = bytes(self._pending), bytearray()
        if self._form == "lines":
            self._take_line(rest)
            self._take_event()
        elif self._form in ("json", "value"):
            value = _object(rest)
            for item in value if isinstance(value, list) else [value]:
                self._take(item)
            self.is_marked = self.is_marked or (value is not None and self.is_known)

    # --- forms -------------------------------------------------------------------------------

    def _take_lines(self) -> None:
        *lines, rest = self._pending.split(b"\n")
        self._pending = rest
        for line in lines:
            self._take_line(bytes(line))

    def _take_line(self, line: bytes) -> None:
        line = line.strip()
        if line.startswith(b"data:"):
            line = line[5:].strip()
        elif not line.startswith(b"{"):
            if not line:
                self._take_event()
            return  # a comment, or another field of an event
        if line == b"[DONE]":
            self.is_marked = True
            return
        if (value := _object(line)) is not None:
            self._event.clear()
            self._take(value)
        elif line:
            self._event.append(line)

    def _take_event(self) -> None:
        """An event whose JSON has several lines."""
        if self._event:
            self._take(_object(b"\n".join(self._event)))
            self._event.clear()

    def _take_amazon(self) -> None:
        end = 0
        for found in _AMAZON.finditer(self._pending):
            end = found.end()
            if found[1] is not None:
                self._take({"stopReason": found[1].decode("utf-8", "replace")})
            else:
                with suppress(ValueError):
                    self._take(_object(base64.b64decode(found[2])))
        del self._pending[: max(end, len(self._pending) - _LONGEST_FRAME)]

    # --- places of the word --------------------------------------------------------------------

    def _take(self, event: Any) -> None:
        if not isinstance(event, dict):
            return
        kind = event.get("type")
        self.is_known |= kind == "message_start" or bool(event.keys() & _ANSWERS)
        self.is_marked |= kind == "message_stop" or event.get("done") is True
        self._take_error(event, kind)
        for word in _words(event):
            self._take_word(word)
        reason = _dict(event.get("promptFeedback")).get("blockReason")
        if reason is not None:
            self._take_word(reason)
            self.is_blocked = True
        self._take_texts(event)

    def _take_word(self, word: Any) -> None:
        if word is None or isinstance(word, bool):
            return
        text = " ".join(clean(word if isinstance(word, str) else json.dumps(word)).split())[:100]
        if text.lower() not in _NOTHING_YET:
            self.word = text

    def _take_error(self, event: dict[str, Any], kind: Any) -> None:
        error = event.get("error")
        if isinstance(error, dict):
            words = error.get("message") or (error.get("code") and json.dumps(error))
        else:
            words = error if isinstance(error, str) else None
        if not words and kind == "error":
            words = event.get("message") or json.dumps(event)
        if words:
            self.error = clean(words)[:2000]

    def _take_texts(self, event: dict[str, Any]) -> None:
        choice = _first(event.get("choices"))
        number = choice.get("index")
        if isinstance(number, int):
            self.is_mixed |= self._number not in (None, number) and self._form == "lines"
            self._number = number
        for place in ("delta", "message"):
            said = _dict(choice.get(place)).get("refusal")
            if isinstance(said, str):
                self.refusal += said
        for part in _list(_dict(_first(event.get("candidates")).get("content")).get("parts")):
            text = _dict(part).get("text")
            if isinstance(text, str) and not _dict(part).get("thought"):
                self.partial += text


_GOING = ("in_progress", "queued")
"""States of an answer of OpenAI's Responses that goes on."""

_ANSWERS = {"choices", "candidates"}
"""Fields in which OpenAI's API and Gemini's send answers."""


def _words(event: dict[str, Any]) -> Iterator[Any]:
    """The word, from each place in which some provider writes it."""
    if event.get("choices"):
        # Nearly every event of a long stream: no other place is looked at.
        yield _first(event["choices"]).get("finish_reason")
        return
    yield _first(event.get("candidates")).get("finishReason")
    for name in ("stop_reason", "stopReason", "finish_reason", "finishReason", "done_reason"):
        yield event.get(name)
    for name in ("delta", "details"):
        inner = _dict(event.get(name))
        yield inner.get("stop_reason")
        yield inner.get("finish_reason")
    for name in ("results", "generations", "outputs"):
        inner = _first(event.get(name))
        yield inner.get("stop_reason")
        yield inner.get("finish_reason")
        yield inner.get("completionReason")
    response = event if event.get("object") == "response" else _dict(event.get("response"))
    if response.get("status") not in _GOING:
        reason = _dict(response.get("incomplete_details")).get("reason")
        yield reason or response.get("status")


def _form_of(begun: bytearray) -> str:
    """The form of a body, from its beginning; "" if it is not clear yet."""
    if begun[:1] == b"\0":  # the length of a frame
        return "amazon"
    start = begun.lstrip()[:1]
    return "" if not start else "json" if start in b"{[" else "lines"


def _object(text: bytes) -> Any:
    """The JSON object or array; None if it is neither."""
    if not text.lstrip().startswith((b"{", b"[")):
        return None
    with suppress(ValueError, RecursionError):
        return msgspec.json.decode(text)
    # It also accepts NaN and halves of surrogate pairs. Bytes that are not UTF-8: as litellm does.
    with suppress(ValueError, RecursionError):
        return json.loads(text.decode("utf-8", "replace"))
    return None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _first(value: Any) -> dict[str, Any]:
    return _dict(value[0]) if isinstance(value, list) and value else {}
