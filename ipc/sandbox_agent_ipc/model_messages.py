"""What is said to the process that asks providers, and what it answers.

These travel inside `Request`, `Reply` and `Done` of a session (see `messages`), as msgpack. Both
ends are ours; what a provider said is text in them, and hostile.
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
    """It answered with an error of its own, or with what makes no sense."""
    CRASHED = "crashed"
    """The process that asks it died, again and again."""


class Ask(msgspec.Struct, frozen=True):
    """One chat completion.

    messages: JSON array in OpenAI's format, encoded. tools: likewise, b"" for none.
    timeout: seconds that the provider may be silent, before its first piece and between two.
    retries: after the first attempt, for what may pass (rate limits, overload, connections,
    silence). params: further keyword arguments of `litellm.acompletion`, never a key.
    answer_limit: bytes of text, reasoning and arguments together that an answer may have.
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
    """Of an answer that is still coming. kind: a `DeltaKind` of the runtime, as text. "restart":
    what came so far is void, since the request is repeated; text then says why. "alive": nothing,
    but for the fact that somebody is at work."""

    kind: str
    text: str


class AnswerCall(msgspec.Struct, frozen=True):
    """A tool call of an answer. arguments: the model's text, whatever it is. kept: what the
    provider wants back with it."""

    name: str
    arguments: str
    provider_state: dict[str, Any] = {}


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """The whole answer.

    kept: what the provider wants back with this turn (thinking blocks). finish: OpenAI's
    finish_reason. input, output, cached, reasoning_tokens: tokens, None where the provider does
    not count. cost_usd: None where no price is known. window: tokens that the model can take in,
    None where it is not known. attempts: that were needed.
    """

    text: str
    calls: list[AnswerCall] = []
    reasoning: str = ""
    provider_state: dict[str, Any] = {}
    finish: str = ""
    input: int | None = None
    output: int | None = None
    cached: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None
    window: int | None = None
    attempts: int = 1


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """There is no answer. text: the provider's words, without keys. status: HTTP's, if any.
    attempts: that were made."""

    kind: FailureKind
    text: str
    status: int | None = None
    attempts: int = 1


FromModel = Piece | Answer | Failure
