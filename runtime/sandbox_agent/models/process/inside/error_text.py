"""The provider's message in an error of litellm, which wraps it, repeats itself and adds advice."""

from __future__ import annotations

import ast
import json
import re
from contextlib import suppress
from typing import Any

from .sanitize import clean, without_secrets

TEXT_LIMIT = 2000
"""Characters of a failure's text, at most."""

SEARCH_LIMIT = 32 * TEXT_LIMIT
"""Characters of a message that are read."""

_PREFIX = re.compile(
    r"\s*(litellm\.)?[A-Z]\w*(Error|Exception|Timeout)( [A-Z]\w*Error)?\s*[:-]\s*"
    r"|\s*litellm\.Timeout\.?\s*|\s*Error code: \d+ - |\s*\d{3}, message[:=]\s*"
    r"|\s*[A-Z]\w*Exception (?=[A-Z])"
)
_TAIL = re.compile(
    r"\.?\s*(Handle with `litellm|LiteLLM Retried|LiteLLM\.Info|Give Feedback|Received Model Group"
    r"|Traceback \(most recent|Learn more: https://docs\.litellm|To drop these, set"
    r"|File an issue if litellm"
    # Advice on litellm's own settings, which sandbox-agent does not offer.
    r"|(?i:(Either provide one, or |To drop [^,]{1,99}, |please )?\b(set|enable|use|add|turn on) "
    r"[`'\"]?(litellm[._]\w|(modify|drop)_params\b))).*",
    re.DOTALL,
)
_EVENT = re.compile(rb"^(data|event|id|retry)?:", re.MULTILINE)
"""A line of server-sent events. Source: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

_EXCERPT = 300
"""Characters of a body that are shown when no message is found in it."""


def message_of(error: BaseException) -> str:
    """The provider's message, without what litellm put around it."""
    text = clean(getattr(error, "message", None) or str(error))[:SEARCH_LIMIT]
    text = " ".join(text.split())  # a long run of blanks makes regular expressions slow
    text = _TAIL.sub("", without_prefix(text))
    return _inside(_from_bytes(text.strip())) or str(getattr(error, "code", None) or "")


def message_in_body(body: bytes) -> tuple[str, bool]:
    """The text in a body that should have been a stream, and whether it is an error's message.
    "" if the body has server-sent events: then it was a stream.

    body: its beginning.
    """
    if _EVENT.search(body):
        return "", False
    text = " ".join(clean(body.decode("utf-8", "replace")).split())
    words = " ".join(_inside(text).split())
    is_message = text.startswith("{") and words != text
    words = without_secrets(words)  # before the text is cut: half of a secret could remain
    return (words if is_message else words[:_EXCERPT]), is_message


def without_prefix(text: str) -> str:
    """The text without the names of exceptions at its beginning."""
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
        text = re.sub(r"(?is)<(script|style)\b.*?</\1>", " ", text[: 4 * TEXT_LIMIT])
        return re.sub(r"<[^<>]*>", " ", text)
    return text


def _literal(text: str) -> Any:
    """Reads the repr of a body, which some of litellm's messages contain."""
    return ast.literal_eval(text) if len(text) <= 2 * TEXT_LIMIT else None


def _message(value: Any) -> str:
    if isinstance(value, list):
        return next(filter(None, map(_message, value[:1])), "")
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return ""
    return next(filter(None, (_message(value.get(key)) for key in _MESSAGES)), "")


_MESSAGES = ("error", "message", "detail", "msg")
