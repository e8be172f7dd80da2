"""The provider's words in what litellm says: it wraps them, repeats itself, and gives advice."""

from __future__ import annotations

import ast
import json
import re
from contextlib import suppress
from typing import Any

from .sanitize import clean, without_secrets

LONGEST = 2000
"""Characters of a failure's text."""

FURTHEST = 32 * LONGEST
"""Characters of a message that are looked at."""

_PREFIX = re.compile(
    r"\s*(litellm\.)?[A-Z]\w*(Error|Exception|Timeout)( [A-Z]\w*Error)?\s*[:-]\s*"
    r"|\s*litellm\.Timeout\.?\s*|\s*Error code: \d+ - |\s*\d{3}, message[:=]\s*"
    r"|\s*[A-Z]\w*Exception (?=[A-Z])"
)
_TAIL = re.compile(
    r"\.?\s*(Handle with `litellm|LiteLLM Retried|LiteLLM\.Info|Give Feedback|Received Model Group"
    r"|Traceback \(most recent|Learn more: https://docs\.litellm|To drop these, set"
    r"|File an issue if litellm"
    # Settings of its own, which nobody can make through us.
    r"|(?i:(Either provide one, or |To drop [^,]{1,99}, |please )?\b(set|enable|use|add|turn on) "
    r"[`'\"]?(litellm[._]\w|(modify|drop)_params\b))).*",
    re.DOTALL,
)
_EVENT = re.compile(rb"^(data|event|id|retry)?:", re.MULTILINE)
"""A line of server-sent events. Source: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

_GLIMPSE = 300
"""Characters of a body that are told where no message is found in it."""


def words_of(error: BaseException) -> str:
    """What the provider said, without what litellm put around it."""
    text = clean(getattr(error, "message", None) or str(error))[:FURTHEST]
    text = " ".join(text.split())  # no long runs of blanks, over which expressions could stumble
    text = _TAIL.sub("", without_prefix(text))
    return _inside(_from_bytes(text.strip())) or str(getattr(error, "code", None) or "")


def words_in(body: bytes) -> tuple[str, bool]:
    """What the beginning of a body says that should have been a stream, and whether that is an
    error's message. "" when events are in it: it was a stream."""
    if _EVENT.search(body):
        return "", False
    text = " ".join(clean(body.decode("utf-8", "replace")).split())
    words = " ".join(_inside(text).split())
    is_message = text.startswith("{") and words != text
    words = without_secrets(words)  # before it is cut: half of one could be left
    return (words if is_message else words[:_GLIMPSE]), is_message


def without_prefix(text: str) -> str:
    """The text without the names of exceptions before it."""
    while found := _PREFIX.match(text):
        text = text[found.end() :]
    return text


def _from_bytes(text: str) -> str:
    """Some of litellm's messages are the repr of bytes."""
    if re.fullmatch(r"b(['\"]).*\1", text, re.DOTALL):
        with_escapes = text[2:-1].encode("latin-1", "replace").decode("unicode_escape", "replace")
        return with_escapes.encode("latin-1", "replace").decode("utf-8", "replace")
    return text


def _inside(text: str) -> str:
    """The message of a JSON or HTML body; the text itself when it is neither."""
    if text.startswith(("{", "[")):
        for read in (json.loads, _literal):
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                return _message(read(text)) or text
    if re.match(r"\s*<(!doctype|html|head|\?xml)", text, re.IGNORECASE):
        text = re.sub(r"(?is)<(script|style)\b.*?</\1>", " ", text[: 4 * LONGEST])
        return re.sub(r"<[^<>]*>", " ", text)
    return text


def _literal(text: str) -> Any:
    """The repr of a body, which is what some of litellm's messages hold."""
    return ast.literal_eval(text) if len(text) <= 2 * LONGEST else None


def _message(value: Any) -> str:
    if isinstance(value, list):
        return next(filter(None, map(_message, value[:1])), "")
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return ""
    return next(filter(None, (_message(value.get(key)) for key in _MESSAGES)), "")


_MESSAGES = ("error", "message", "detail", "msg")
