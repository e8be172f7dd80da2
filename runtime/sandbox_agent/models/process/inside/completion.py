"""One chat completion through litellm. A failure is returned as a `Failure`, never raised."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from sandbox_agent_ipc.model_messages import Answer, Ask, Failure, FailureKind, Finish, Piece

from . import keys
from .answer_builder import AnswerBuilder, AnswerTooLong
from .error_text import TEXT_LIMIT, message_in_body
from .finish import finish_of
from .openai_speedup import skip_message_transform
from .own_end import OwnEnd
from .provider_errors import ProviderError, provider_error_of, without_wrapper
from .repairs import repair
from .request import (
    arguments_of,
    cost_of,
    provider_of,
    wants_reasoning,
    window_of,
    without_images,
)
from .retry import LONGEST_RETRY_AFTER, backoff, retry_after, wait_for
from .sanitize import one_line, without_secrets
from .stream_limits import READ_LIMIT, StreamLimits, install_limits

Tell = Callable[[Piece], None]

_FREE_AFTER = (0.2, 1.0, 5.0)
"""Seconds after `ReadLimitExceeded` at which the memory of the answer is freed. What came is held
by reference cycles of exceptions and responses, and the current frames are part of them; on a busy
machine for a while."""

_CLOSING = 1.0
"""Seconds that closing a stream may take."""

_RESPONSE_ATTRIBUTES = ("streaming_response", "response_iterator", "http_response", "response")
"""Attributes in which litellm's streams keep the response that they read, or its lines."""

_ENDLESS_REPETITION = 1 << 60

_MOST_TOKENS = 10**12
"""Of one answer. A provider may count anything, and a record holds no integer of 65 bits."""


def load() -> None:
    """Imports litellm and what its first request would import. Takes seconds; blocks.

    The garbage collector is off meanwhile: it would traverse all new objects many times and free
    none.
    """
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise it downloads one
    os.environ["LITELLM_MODE"] = "PRODUCTION"  # otherwise it reads any .env
    # Otherwise it searches the history for images after each answer, to shorten them in its log.
    os.environ.setdefault("MAX_BASE64_LENGTH_FOR_LOGGING", "0")
    gc.disable()
    try:
        _import()
    finally:
        gc.freeze()
        gc.enable()


def _import() -> None:
    import logging
    import warnings

    import litellm

    warnings.simplefilter("ignore")  # on data of providers and on its own code

    litellm.suppress_debug_info = True  # it goes to standard output
    litellm.disable_token_counter = True  # only the provider's count is used
    # It raises after a hundred equal pieces; tables and indented code have them too.
    vars(litellm)["REPEATED_STREAMING_CHUNK_LIMIT"] = _ENDLESS_REPETITION
    if not os.environ.get("LITELLM_LOG"):
        logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
    with suppress(ImportError):
        import openai.resources.chat  # noqa: F401  (most of the first request's imports)
    skip_message_transform()
    repair()
    install_limits()


def _free_memory() -> None:
    gc.collect()
    # AttributeError: only glibc has it. free(3) returns only the top of the heap to the system.
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # malloc_trim(3)


async def answer(ask: Ask, tell: Tell) -> Answer | Failure:
    """One chat completion, with its retries. Call `load()` before.

    tell: called with each piece as it arrives. Cancelling the task closes the connection.

    A request with images that is refused is repeated once without them: an image that the provider
    cannot read, or that is too large, would make it refuse every later request too. If the second
    request is refused as well, the images were not the cause, and the first refusal is returned.
    """
    attempt, refusal = 0, None  # refusal: of the request with images
    while True:
        attempt += 1
        try:
            found = await _attempt(ask, tell)
            return msgspec.structs.replace(found, attempts=attempt)
        except ProviderError as caught:
            error = caught
        if _may_be_the_images(error):
            imageless = None if refusal else without_images(ask)
            if imageless is not None:
                refusal, ask = error, imageless
                attempt -= 1
                tell(Piece("restart", f"{error.text}; asking again without images"))
                continue
            error = refusal or error
        wait, why_not = _next_wait(error, attempt, ask.retries)
        if wait is None:
            text = one_line(f"{error.text}{why_not}", TEXT_LIMIT)
            return Failure(error.kind, text, error.status, attempt)
        tell(Piece("restart", f"{error.text}; asking again in {wait:.1f} s"))
        await wait_for(wait, tell)


def _may_be_the_images(error: ProviderError) -> bool:
    """is_large: images are most of the bytes, and the host shortens only text."""
    return error.is_large or (error.kind is FailureKind.BAD_REQUEST and error.status != 404)


def _next_wait(error: ProviderError, attempt: int, retries: int) -> tuple[float | None, str]:
    """Seconds until the next attempt. None for no further attempt, with the reason if it is not
    obvious."""
    if not error.is_transient or attempt > retries:
        return None, ""
    if error.retry_after is None:
        return backoff(attempt), ""
    if error.retry_after > LONGEST_RETRY_AFTER:
        asked = f"it asks for a wait of {error.retry_after:.0f} s"
        return None, f" ({asked}; sandbox-agent waits {LONGEST_RETRY_AFTER:.0f} s at most)"
    return error.retry_after, ""


async def _attempt(ask: Ask, tell: Tell) -> Answer:
    """Raises ProviderError."""
    provider = provider_of(ask.model, ask.api_base)
    builder, limits = AnswerBuilder(tell, ask.answer_limit), StreamLimits(tell)
    get = _streamed if ask.stream else _in_one_piece
    try:
        with limits.applied():
            came = await get(arguments_of(ask, provider), builder, limits, ask.timeout)
        limits.end.close()
        _add_what_litellm_leaves_out(builder, limits.end)
        if ask.stream and builder.is_empty and limits.end.came_at_once:
            text = "the answer came in one piece, not as a stream; set model.stream to false"
            raise ProviderError(FailureKind.PROVIDER, text)
    except ProviderError:
        raise
    except AnswerTooLong:
        text = f"the answer is longer than {ask.answer_limit} bytes"
        raise ProviderError(FailureKind.PROVIDER, text) from None
    except TimeoutError:
        text = f"the provider was silent for {ask.timeout:g} s"
        raise ProviderError(FailureKind.TIMEOUT, text, is_transient=True) from None
    except Exception as error:
        if limits.exceeded:
            for seconds in _FREE_AFTER:
                asyncio.get_running_loop().call_later(seconds, _free_memory)
            text = f"{READ_LIMIT >> 20} MiB came without one complete piece of an answer"
            raise ProviderError(FailureKind.PROVIDER, text) from None
        raise _provider_error(error, ask, provider) from None
    ended = finish_of(limits.end, came.finish, builder, is_made_up=came.is_made_up)
    if ended is None:
        raise _broken_off(builder, limits)
    return _answer(ask, provider, builder, ended, came.usage)


@dataclass(frozen=True)
class _Came:
    """What came beside the pieces. finish: litellm's reason. is_made_up: litellm received none."""

    finish: str
    usage: Any
    is_made_up: bool = False


def _add_what_litellm_leaves_out(builder: AnswerBuilder, end: OwnEnd) -> None:
    """Of an answer in one piece, litellm drops OpenAI's field for refusals, and the text of an
    answer that Gemini's filter stopped."""
    if end.refusal and not builder.refusal:
        builder.add_refusal(end.refusal)
    if end.partial and builder.is_empty:
        builder.add_text(end.partial)


async def _streamed(
    arguments: dict[str, Any], builder: AnswerBuilder, limits: StreamLimits, silence: float
) -> _Came:
    """Reads a streamed answer."""
    import litellm

    finish, usage, stream = "", None, None
    try:
        async with limits.silence(silence):
            stream = await litellm.acompletion(**arguments)
            while (chunk := await anext(stream, None)) is not None:
                usage = getattr(chunk, "usage", None) or usage
                for choice in (chunk.choices or ())[:1]:
                    finish = choice.finish_reason or finish
                    if builder.add(choice.delta):
                        limits.progress()
                await limits.yield_to_loop()
    finally:
        await _close(stream)
    return _Came(finish, usage, not _was_finished(stream, finish))


def _was_finished(stream: Any, finish: str) -> bool:
    """Whether litellm received a finish reason: it makes one up for a stream that broke off."""
    return any(getattr(stream, name, finish) for name in _FINISHED)


_FINISHED = ("received_finish_reason", "intermittent_finish_reason")


async def _in_one_piece(
    arguments: dict[str, Any], builder: AnswerBuilder, limits: StreamLimits, silence: float
) -> _Came:
    """Reads an answer that is not streamed."""
    import litellm

    async with limits.silence(silence):
        response = await litellm.acompletion(**arguments)
    choices = getattr(response, "choices", None)
    if not choices:
        raise _broken_off(builder, limits)
    builder.add(choices[0].message, whole=True)
    return _Came(choices[0].finish_reason or "", getattr(response, "usage", None))


async def _close(stream: Any) -> None:
    """Closes the connection, unless the answer was read to its end.

    For some providers litellm's own `aclose` leaves the response below it open.
    """
    inner = getattr(stream, "completion_stream", None)
    parts = [stream, *(getattr(inner, name, None) for name in _RESPONSE_ATTRIBUTES)]
    with suppress(Exception):
        async with asyncio.timeout(_CLOSING):
            for part in parts:
                if hasattr(part, "aclose"):
                    with suppress(Exception):
                        await part.aclose()


def _broken_off(builder: AnswerBuilder, limits: StreamLimits) -> ProviderError:
    if not builder.is_empty:
        return ProviderError(
            FailureKind.CONNECTION, "the answer broke off in the middle", is_transient=True
        )
    # Some providers send an error with status 200; readers of a stream skip such a body.
    words, is_message = message_in_body(limits.head)
    words = one_line(words, TEXT_LIMIT)
    if is_message:
        return ProviderError(FailureKind.PROVIDER, words, is_transient=True)
    text = "the response is not a model's answer (is api_base right?)"
    return ProviderError(
        FailureKind.PROVIDER, f"{text}: {words}" if words else text, is_transient=True
    )


def _answer(
    ask: Ask, provider: str, builder: AnswerBuilder, ended: tuple[Finish, str], usage: Any
) -> Answer:
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    counted = bool(prompt or completion)  # litellm makes up zeros
    return Answer(
        text=builder.text,
        calls=builder.calls,
        reasoning=builder.reasoning,
        provider_state=builder.provider_state(reasoning=wants_reasoning(provider)),
        finish=ended[0],
        finish_word=ended[1],
        input=prompt if counted else None,
        output=completion if counted else None,
        cached=_count(getattr(usage, "prompt_tokens_details", None), "cached_tokens"),
        reasoning_tokens=_count(
            getattr(usage, "completion_tokens_details", None), "reasoning_tokens"
        ),
        cost_usd=cost_of(ask.model, provider, usage) if counted else None,
        window=window_of(ask.model),
    )


def _count(of: Any, name: str) -> int:
    value = getattr(of, name, None)
    return min(max(value, 0), _MOST_TOKENS) if isinstance(value, int) else 0


def _provider_error(caught: Exception, ask: Ask, provider: str) -> ProviderError:
    try:
        error = provider_error_of(caught, retry_after=retry_after(without_wrapper(caught)))
    except Exception:  # an exception of litellm may raise from any of its attributes
        text = one_line(without_secrets(repr(caught)), TEXT_LIMIT)
        return ProviderError(FailureKind.PROVIDER, text)
    kind, text = error.kind, error.text
    if kind is FailureKind.UNKNOWN_MODEL and not provider:
        text = f"litellm knows no provider for {ask.model!r}: write it as PROVIDER/MODEL"
    elif kind in (FailureKind.MISSING_KEY, FailureKind.AUTHENTICATION):
        names = keys.missing(provider, os.environ)
        if names:
            kind = FailureKind.MISSING_KEY
            answer = f"; the answer was: {text}" if error.status else ""
            text = f"there is no key: set {' or '.join(names)}{answer}"
    return replace(error, kind=kind, text=one_line(text, TEXT_LIMIT))
