"""Error answers in the words of the two providers.

Source: https://platform.openai.com/docs/guides/error-codes and
https://platform.claude.com/docs/en/api/errors; messages as they are quoted in reports of users.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from provider.script import Fault, Kind

Json = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One error: its status, the provider's type and code for it, and its words, in which {key}
    is the key as OpenAI masks it and {model} what was asked for."""

    status: int
    type: str
    code: str | None
    message: str
    param: str | None = None


_INVALID = "invalid_request_error"
OPENAI = {
    Kind.BAD_REQUEST: Row(400, _INVALID, None, "Unrecognized request argument supplied: stub"),
    Kind.CONTEXT_WINDOW: Row(
        400,
        _INVALID,
        "context_length_exceeded",
        "This model's maximum context length is 8192 tokens. However, your messages resulted in "
        "9001 tokens. Please reduce the length of the messages.",
        "messages",
    ),
    Kind.CONTENT_POLICY: Row(
        400,
        _INVALID,
        "content_policy_violation",
        "Your request was rejected as a result of our safety system. Your prompt may contain text "
        "that is not allowed by our safety system.",
    ),
    Kind.CONTENT_FILTER: Row(
        400,
        _INVALID,
        "content_filter",
        "The response was filtered due to the prompt triggering the content management policy. "
        "Please modify your prompt and retry.",
        "prompt",
    ),
    Kind.AUTHENTICATION: Row(
        401,
        _INVALID,
        "invalid_api_key",
        "Incorrect API key provided: {key}. You can find your API key at "
        "https://platform.openai.com/account/api-keys.",
    ),
    Kind.PERMISSION: Row(
        403, _INVALID, "unsupported_country", "Country, region, or territory not supported"
    ),
    Kind.NOT_FOUND: Row(
        404,
        _INVALID,
        "model_not_found",
        "The model `{model}` does not exist or you do not have access to it.",
    ),
    Kind.TOO_LARGE: Row(413, _INVALID, None, "Request body is too large"),
    Kind.RATE_LIMIT: Row(
        429,
        "tokens",
        "rate_limit_exceeded",
        "Rate limit reached for {model} on tokens per min (TPM): Limit 30000, Used 29500, "
        "Requested 1200. Please try again in 1.4s.",
    ),
    Kind.QUOTA: Row(
        429,
        "insufficient_quota",
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    Kind.SERVER: Row(
        500,
        "server_error",
        None,
        "The server had an error while processing your request. Sorry about that!",
    ),
    Kind.GATEWAY: Row(502, "", None, "Bad Gateway"),
    Kind.UNAVAILABLE: Row(503, "server_error", None, "The engine is currently overloaded"),
    Kind.OVERLOADED: Row(503, "server_error", None, "That model is currently overloaded"),
}
ANTHROPIC = {
    Kind.BAD_REQUEST: Row(400, _INVALID, None, "stub: Extra inputs are not permitted"),
    Kind.CONTEXT_WINDOW: Row(
        400, _INVALID, None, "prompt is too long: 200251 tokens > 200000 maximum"
    ),
    Kind.CONTENT_POLICY: Row(400, _INVALID, None, "Output blocked by content filtering policy"),
    Kind.CONTENT_FILTER: Row(400, _INVALID, None, "Output blocked by content filtering policy"),
    Kind.AUTHENTICATION: Row(401, "authentication_error", None, "invalid x-api-key"),
    Kind.PERMISSION: Row(
        403,
        "permission_error",
        None,
        "Your API key does not have permission to use the specified resource.",
    ),
    Kind.NOT_FOUND: Row(404, "not_found_error", None, "model: {model}"),
    Kind.TOO_LARGE: Row(413, "request_too_large", None, "Request exceeds the maximum size"),
    Kind.RATE_LIMIT: Row(
        429,
        "rate_limit_error",
        None,
        "This request would exceed your organization's rate limit of 40,000 input tokens per "
        "minute.",
    ),
    Kind.QUOTA: Row(
        400,
        _INVALID,
        None,
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing "
        "to upgrade or purchase credits.",
    ),
    Kind.SERVER: Row(500, "api_error", None, "Internal server error"),
    Kind.GATEWAY: Row(502, "", None, "Bad Gateway"),
    Kind.UNAVAILABLE: Row(503, "api_error", None, "Service temporarily unavailable"),
    Kind.OVERLOADED: Row(529, "overloaded_error", None, "Overloaded"),
}
_HTML = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>nginx</body>\r\n</html>\r\n"


@dataclass(frozen=True)
class Refusal:
    """What goes over the wire. event: the same in the middle of a stream, without its frame."""

    status: int
    headers: dict[str, str]
    body: bytes
    event: Json


def refusal(fault: Fault, *, anthropic: bool, model: str, key: str) -> Refusal:
    """The provider's answer for this fault."""
    row = (ANTHROPIC if anthropic else OPENAI)[fault.kind]
    message = fault.message or row.message.format(key=masked(key), model=model)
    headers = {"Content-Type": "application/json"}
    if fault.retry_after is not None:
        headers["Retry-After"] = fault.retry_after
    data: Json
    if anthropic:
        data = {"type": "error", "error": {"type": row.type or "api_error", "message": message}}
        data["request_id"] = "req_stub"
    else:
        error = {"message": message, "type": row.type, "param": row.param, "code": row.code}
        data = {"error": error}
    if fault.kind is Kind.GATEWAY:
        # Not from the provider at all, but from something before it.
        return Refusal(row.status, headers | {"Content-Type": "text/html"}, _HTML.encode(), data)
    return Refusal(row.status, headers, json.dumps(data).encode(), data)


def masked(key: str) -> str:
    """As OpenAI repeats a wrong key: eight characters of it, stars, and the last four."""
    return key if len(key) < 13 else f"{key[:8]}{'*' * (len(key) - 12)}{key[-4:]}"
