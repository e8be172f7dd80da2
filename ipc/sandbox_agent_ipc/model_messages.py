"""Requests to the process that asks providers, and its answers.

They travel inside `Request`, `Reply` and `Done` of a session (see `messages`), as MessagePack. Both
ends are trusted. Text of a provider in them is not.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class FailureKind(StrEnum):
    """Why a model did not answer."""

    UNKNOWN_MODEL = "unknown_model"
    MISSING_KEY = "missing_key"
    AUTHENTICATION = "authentication"
    CONTEXT_WINDOW = "context_window"
    CONTENT_POLICY = "content_policy"
    RATE_LIMIT = "rate_limit"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    BAD_REQUEST = "bad_request"
    PROVIDER = "provider"
    """The provider answered with an error of its own, or with an answer that makes no sense."""
    CRASHED = "crashed"
    """The process that asks the provider died several times."""
    SHORTAGE = "shortage"
    """This host has no thread, process, descriptor or memory left for the request."""


class Finish(StrEnum):
    """How an answer ended, in OpenAI's words as far as it has them.

    Only STOP, and CALLS with calls, end a whole answer. LENGTH: a limit cut it off. REFUSED: the
    model refused, or the provider's filter stopped it. PAUSED: the same request, with this answer
    added, continues it.
    """

    STOP = "stop"
    CALLS = "tool_calls"
    LENGTH = "length"
    REFUSED = "content_filter"
    PAUSED = "pause_turn"


class Ask(msgspec.Struct, frozen=True):
    """One chat completion.

    messages: JSON array in OpenAI's format, encoded. tools: likewise, b"" for none.
    timeout: seconds that the provider may be silent, before its first piece and between two.
    retries: attempts after the first one, for errors that may pass (rate limits, overload,
    connections, silence). params: further keyword arguments of `litellm.acompletion`, never a key.
    answer_limit: bytes that text, reasoning and arguments of an answer may have together.
    """

    model: str
    messages: bytes
    tools: bytes = b""
    api_base: str | None = None
    timeout: float = 300.0
    retries: int = 2
    stream: bool = True
    params: dict[str, Any] = {}
    answer_limit: int = 1 << 20


class Piece(msgspec.Struct, frozen=True, tag="piece"):
    """A piece of an answer that is still coming.

    kind: a `DeltaKind` of the runtime, as text. "restart": the pieces so far are void, because the
    request is repeated; `text` says why. "alive": no text; the provider is at work.
    """

    kind: str
    text: str


class AnswerCall(msgspec.Struct, frozen=True):
    """A tool call of an answer.

    arguments: the model's text, valid or not. provider_state: data that the provider wants back
    with this call.
    """

    name: str
    arguments: str
    provider_state: dict[str, Any] = {}


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """The whole answer.

    provider_state: data that the provider wants back with this turn (thinking blocks).
    finish_word: the provider's own word for `finish`. input, output, cached, reasoning_tokens:
    tokens, None where the provider does not count. cost_usd: US dollars, None where no price is
    known. window: tokens of the model's context window, None where it is not known. attempts: how
    many were made.
    """

    text: str
    calls: list[AnswerCall] = []
    reasoning: str = ""
    provider_state: dict[str, Any] = {}
    finish: Finish = Finish.STOP
    finish_word: str = ""
    input: int | None = None
    output: int | None = None
    cached: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None
    window: int | None = None
    attempts: int = 1


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """The request failed. text: the provider's words, without keys. status: the HTTP status, if
    any. attempts: how many were made."""

    kind: FailureKind
    text: str
    status: int | None = None
    attempts: int = 1


FromModel = Piece | Answer | Failure
