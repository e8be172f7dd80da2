"""Maps litellm's exceptions to one `ProviderError` with a `FailureKind`.

Exceptions are recognised by the names of their classes, so nothing here has to import them. litellm
wraps what it caught, often more than once, so the causes are checked too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sandbox_agent_ipc.model_messages import FailureKind
from sandbox_agent_ipc.shortage import Shortage, shortage_at

from .error_text import SEARCH_LIMIT, TEXT_LIMIT, message_of, without_prefix
from .sanitize import one_line, without_secrets

_KINDS = (
    ("ContextWindowExceededError", FailureKind.CONTEXT_WINDOW),
    ("ContentPolicyViolationError", FailureKind.CONTENT_POLICY),
    ("AuthenticationError", FailureKind.AUTHENTICATION),
    ("PermissionDeniedError", FailureKind.AUTHENTICATION),
    ("RateLimitError", FailureKind.RATE_LIMIT),
    ("Timeout", FailureKind.TIMEOUT),
    ("APITimeoutError", FailureKind.TIMEOUT),
    ("ServiceUnavailableError", FailureKind.PROVIDER),
    ("BadGatewayError", FailureKind.PROVIDER),
    ("InternalServerError", FailureKind.PROVIDER),
    ("APIResponseValidationError", FailureKind.PROVIDER),
    ("NotFoundError", FailureKind.BAD_REQUEST),
    ("BadRequestError", FailureKind.BAD_REQUEST),
    ("UnprocessableEntityError", FailureKind.BAD_REQUEST),
)
"""The first match counts: some of the classes are subclasses of later ones."""

_CONNECTION_CAUSES = {
    "APIConnectionError", "ClientConnectorError", "ClientOSError", "ClientPayloadError",
    "ConnectError", "ConnectionError", "NetworkError", "ReadError", "RemoteProtocolError",
    "ServerDisconnectedError", "WriteError",
}  # fmt: skip
_TIMEOUT_CAUSES = {"APITimeoutError", "TimeoutException", "TimeoutError"}
_LIBRARIES = ("aiohttp", "httpcore", "httpx", "openai", "builtins")

TOO_LARGE = 413
_BY_STATUS = {
    401: FailureKind.AUTHENTICATION,
    403: FailureKind.AUTHENTICATION,
    408: FailureKind.TIMEOUT,
    TOO_LARGE: FailureKind.CONTEXT_WINDOW,
    429: FailureKind.RATE_LIMIT,
}

_CONTEXT = re.compile(
    r"context[ _](length|window|size|limit)|prompt is too long|too many (input )?tokens"
    r"|input (length|is too long)|request_too_large|maximum size",
    re.IGNORECASE,
)
_LARGE = re.compile(r"request_too_large|maximum size", re.IGNORECASE)
"""Those of `_CONTEXT` that are about bytes, not tokens."""
_CONTENT = re.compile(r"content_filter|content_policy|content filtering policy", re.IGNORECASE)
_NO_KEY = re.compile(
    r"missing (credentials|\w+ api key)|api_key client option must be|no api key|api key is "
    r"(required|missing)|missing api key|unable to locate credentials|default credentials were not",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"model_not_found|model `[^`]*` does not exist|^model: |unknown model|no such model"
    r"|model ['\"`][^'\"`]*['\"`] (is )?not found|not a valid model",
    re.IGNORECASE,
)
_NO_QUOTA = re.compile(
    r"insufficient_quota|exceeded your current quota|credit balance is too low|billing",
    re.IGNORECASE,
)
_NO_PACKAGE = re.compile(r"no module named|pip install", re.IGNORECASE)
_NO_PROVIDER = "LLM Provider NOT provided"
_NO_ANSWER = re.compile(
    r"Unable to get json response|Expecting |Unterminated string|Extra data:"
    r"|Empty or invalid response|Invalid response object|\d{3}, message"
)
_NO_ANSWER_CAUSES = (AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What litellm raises for a malformed response."""


@dataclass(eq=False)  # Python itself sets attributes of exceptions, so it cannot be frozen
class ProviderError(Exception):
    """Why an attempt failed. status: of HTTP. is_transient: another attempt may succeed.
    retry_after: seconds that the provider asks to wait. is_large: the request has too many bytes.
    """

    kind: FailureKind
    text: str
    status: int | None = None
    is_transient: bool = False
    retry_after: float | None = None
    is_large: bool = False


def provider_error_of(error: Exception, *, retry_after: float | None = None) -> ProviderError:
    """What this exception of litellm means. retry_after: see `retry.retry_after`."""
    error = without_wrapper(error)
    short = _shortage(error)
    if short is not None:
        return ProviderError(FailureKind.SHORTAGE, str(short))
    status = _status(error)
    words = message_of(error)
    kind = _kind(error, status, words)
    is_transient = _is_transient(kind, status, f"{words} {error}")
    if kind in (FailureKind.CONNECTION, FailureKind.TIMEOUT):
        words = _connection_words(error) or words
    text = one_line(without_secrets(words), TEXT_LIMIT) or type(error).__name__
    is_http = True  # litellm gives 400, 401 or 500 also to errors of its own
    if kind is FailureKind.PROVIDER and _is_no_answer(error, words):
        is_http, text = False, f"the response is not a model's answer: {text}"
    elif kind is FailureKind.BAD_REQUEST and status == 404:
        text += " (nothing at this address answers: is api_base right?)"
    elif kind is FailureKind.BAD_REQUEST and _NO_PACKAGE.search(words):
        is_http, text = False, f"litellm needs another package for this provider: {text}"
    elif kind is FailureKind.CONNECTION or _NO_KEY.search(words) or _NO_PROVIDER in str(error):
        is_http = False
    elif "UnsupportedParamsError" in type(error).__name__:
        is_http, text = False, f"{text}; params: {{drop_params: true}} drops such parameters"
    is_large = kind is FailureKind.CONTEXT_WINDOW and (
        status == TOO_LARGE or _LARGE.search(words) is not None
    )
    return ProviderError(
        kind, text, status if is_http else None, is_transient, retry_after, is_large
    )


def _shortage(error: Exception) -> Shortage | None:
    """What this host has run out of, if that is a cause. EAGAIN of a socket is none: it would have
    blocked, and is handled where it is met."""
    for one in (error, *_causes(error)):
        if not isinstance(one, BlockingIOError) and (short := shortage_at(one)) is not None:
            return short
    return None


def without_wrapper(error: Exception) -> Exception:
    """The exception inside litellm's wrapper for errors in the middle of a stream."""
    inner = getattr(error, "original_exception", None)
    return inner if isinstance(inner, Exception) else error


def _kind(error: Exception, status: int | None, words: str) -> FailureKind:
    raw = f"{words} {getattr(error, 'code', '')} {str(error)[:SEARCH_LIMIT]}"
    names = {kind.__name__ for kind in type(error).__mro__}
    kind = next((kind for name, kind in _KINDS if name in names), FailureKind.PROVIDER)
    if _NO_PROVIDER in raw or (status == 404 and _NO_MODEL.search(words)):
        return FailureKind.UNKNOWN_MODEL
    if _NO_KEY.search(words):
        return FailureKind.MISSING_KEY
    if kind is FailureKind.PROVIDER and _NO_PACKAGE.search(words):
        return FailureKind.BAD_REQUEST
    if kind in (FailureKind.PROVIDER, FailureKind.TIMEOUT):
        return _by_cause(error) or (
            _BY_STATUS.get(status or 0, kind) if kind is FailureKind.PROVIDER else kind
        )
    if kind is FailureKind.BAD_REQUEST:
        if _CONTENT.search(raw):
            return FailureKind.CONTENT_POLICY
        if status not in _BY_STATUS and _CONTEXT.search(words):
            return FailureKind.CONTEXT_WINDOW
        return _BY_STATUS.get(status or 0, kind)
    return kind


def _by_cause(error: Exception) -> FailureKind | None:
    """The kind of an error below HTTP; None if no cause is one."""
    for cause in _causes(error):
        if type(cause).__module__.split(".")[0] not in _LIBRARIES:
            continue  # litellm has classes with the same names and uses them for any error
        names = {one.__name__ for one in type(cause).__mro__}
        if names & _TIMEOUT_CAUSES:
            return FailureKind.TIMEOUT
        if names & _CONNECTION_CAUSES:
            return FailureKind.CONNECTION
    return None


def _connection_words(error: Exception) -> str:
    """The message of the nearest cause that says more than that the connection failed."""
    for cause in _causes(error):
        text = without_prefix(str(cause).strip())
        if text and text not in ("Connection error.", "Request timed out."):
            if type(cause).__name__.startswith(("Invalid", "UnsupportedProtocol")):
                text = f"{text} is not an address"
            return re.sub(r" ssl:(<[^>]*>|\w+)", "", text)
    return ""


def _is_no_answer(error: Exception, words: str) -> bool:
    caused = any(isinstance(cause, _NO_ANSWER_CAUSES) for cause in _causes(error))
    return _NO_ANSWER.match(words) is not None or caused


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The chain of causes, the nearest first."""
    seen: set[int] = set()
    cause = error.__cause__ or error.__context__
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_transient(kind: FailureKind, status: int | None, words: str) -> bool:
    if kind in (FailureKind.TIMEOUT, FailureKind.CONNECTION):
        return True
    if kind is FailureKind.RATE_LIMIT:
        return not _NO_QUOTA.search(words)
    if kind is not FailureKind.PROVIDER:
        return False
    return status is None or status >= 500 or status in (200, 409, 425)


def _status(error: Exception) -> int | None:
    status = getattr(error, "status_code", None)
    try:
        return int(status) if status is not None else None
    except (TypeError, ValueError):
        return None
