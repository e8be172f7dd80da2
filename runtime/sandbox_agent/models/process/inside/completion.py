"""Asking a provider, with litellm. Nothing of what a provider does gets out as an exception."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec
from sandbox_agent_ipc.model_messages import Answer, Ask, Failure, FailureKind, Piece

from . import keys
from .error_text import LONGEST, words_in
from .openai_speedup import spare_messages
from .provider_errors import ProviderError, provider_error_of, unwrapped
from .request import (
    arguments_of,
    cost_of,
    provider_of,
    wants_thoughts,
    window_of,
    without_images,
)
from .retry import LONGEST_ASKED, asked_wait, pause, rest
from .sanitize import one_line, without_secrets
from .stream import AnswerBuilder, TooLong
from .stream_limits import MOST, StreamLimits, listen

Tell = Callable[[Piece], None]

_GIVE_BACK = (0.2, 1.0, 5.0)
"""Seconds after an answer without an end in which its memory is given back. What came is in cycles
of exceptions and responses, and we are still among them; on a busy machine for a while."""

_CLOSING = 1.0
"""Seconds that closing a stream may take."""

_BELOW = ("streaming_response", "response_iterator", "http_response", "response")
"""Where litellm's streams keep the response that they read, or the generator of its lines."""

_ENDLESS_REPETITION = 1 << 60


def load() -> None:
    """Imports litellm, and what its first request would import. Seconds; blocks.

    Without the garbage collector, which would look through all of it again and again, in vain.
    """
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it fetches one
    os.environ["LITELLM_MODE"] = "PRODUCTION"  # or it reads whatever .env lies about
    # Or it looks for images in all of the history after each answer, to shorten them in its log.
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

    warnings.simplefilter("ignore")  # about what providers send, and about its own code

    litellm.suppress_debug_info = True  # printed to standard output otherwise
    litellm.disable_token_counter = True  # what the provider did not count is not known
    # A hundred equal pieces are an error for it; tables and indented code have them too.
    vars(litellm)["REPEATED_STREAMING_CHUNK_LIMIT"] = _ENDLESS_REPETITION
    if not os.environ.get("LITELLM_LOG"):
        logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
    with suppress(ImportError):
        import openai.resources.chat  # noqa: F401  (most of what the first request imports)
    spare_messages()
    listen()


def _give_back() -> None:
    gc.collect()
    with suppress(
        AttributeError, OSError
    ):  # glibc's alone; it keeps what lies between other things
        ctypes.CDLL(None).malloc_trim(0)  # malloc_trim(3)


async def answer(ask: Ask, tell: Tell) -> Answer | Failure:
    """One chat completion, repetitions included. Needs `load()` before.

    tell: called with each piece as it comes. Cancelling the task closes the connection.

    A request that is refused is made once more without its images: one that a provider takes for
    broken, too large or none would have every later request refused as well. Where that is refused
    too, it was not the images, and the first refusal counts.
    """
    attempt, refusal = 0, None
    while True:
        attempt += 1
        try:
            found = await _attempt(ask, tell)
            return msgspec.structs.replace(found, attempts=attempt)
        except ProviderError as caught:
            trouble = caught
        if _may_be_of_images(trouble):
            blind = None if refusal else without_images(ask)
            if blind is not None:
                refusal, ask = trouble, blind
                attempt -= 1
                tell(Piece("restart", f"{trouble.text}; asking again without images"))
                continue
            trouble = refusal or trouble
        wait, why_not = _next_wait(trouble, attempt, ask.retries)
        if wait is None:
            text = one_line(f"{trouble.text}{why_not}", LONGEST)
            return Failure(trouble.kind, text, trouble.status, attempt)
        tell(Piece("restart", f"{trouble.text}; asking again in {wait:.1f} s"))
        await rest(wait, tell)


def _may_be_of_images(trouble: ProviderError) -> bool:
    """Images have the most bytes: of a request that has too many, the host would shorten all but
    them, in vain."""
    return trouble.is_large or (trouble.kind is FailureKind.BAD_REQUEST and trouble.status != 404)


def _next_wait(trouble: ProviderError, attempt: int, retries: int) -> tuple[float | None, str]:
    """Seconds until the next attempt; None for no further one, and why, if that is not plain."""
    if not trouble.passing or attempt > retries:
        return None, ""
    if trouble.wait is None:
        return pause(attempt), ""
    if trouble.wait > LONGEST_ASKED:
        asked = f"it asks to be left alone for {trouble.wait:.0f} s"
        return None, f" ({asked}; no more than {LONGEST_ASKED:.0f} s are waited)"
    return trouble.wait, ""


async def _attempt(ask: Ask, tell: Tell) -> Answer:
    """Raises ProviderError."""
    provider = provider_of(ask.model, ask.api_base)
    gathering, hearing = AnswerBuilder(tell, ask.answer_limit), StreamLimits(tell)
    get = _streamed if ask.stream else _whole
    try:
        with hearing.listening():
            finish, usage = await get(arguments_of(ask, provider), gathering, hearing, ask.timeout)
    except ProviderError:
        raise
    except TooLong:
        text = f"the answer is longer than {ask.answer_limit} bytes"
        raise ProviderError(FailureKind.PROVIDER, text) from None
    except TimeoutError:
        text = f"the provider was silent for {ask.timeout:g} s"
        raise ProviderError(FailureKind.TIMEOUT, text, passing=True) from None
    except Exception as error:
        if hearing.is_too_much:
            for seconds in _GIVE_BACK:
                asyncio.get_running_loop().call_later(seconds, _give_back)
            text = f"more than {MOST >> 20} MiB came, and no whole piece of an answer in them"
            raise ProviderError(FailureKind.PROVIDER, text) from None
        raise _told(error, ask, provider) from None
    if finish == "content_filter":
        raise ProviderError(FailureKind.CONTENT_POLICY, "the provider's filter stopped the answer")
    return _answer(ask, provider, gathering, finish, usage)


async def _streamed(
    arguments: dict[str, Any], gathering: AnswerBuilder, hearing: StreamLimits, silence: float
) -> tuple[str, Any]:
    """The finish reason, and what was used up, of an answer in pieces."""
    import litellm

    finish, usage, stream = "", None, None
    try:
        async with hearing.patience(silence):
            stream = await litellm.acompletion(**arguments)
            while (chunk := await anext(stream, None)) is not None:
                usage = getattr(chunk, "usage", None) or usage
                for choice in (chunk.choices or ())[:1]:
                    finish = choice.finish_reason or finish
                    if gathering.add(choice.delta):
                        hearing.heed()
                await hearing.breathe()
    finally:
        await _close(stream)
    if not _was_finished(stream, finish):
        raise _broken_off(gathering, hearing)
    return finish, usage


def _was_finished(stream: Any, finish: str) -> bool:
    """Whether the provider said so: litellm gives a stream that broke off a finish reason too.

    Of Gemini's it does not tell. There only what HTTP knows to be incomplete is noticed.
    """
    return any(getattr(stream, name, finish) for name in _SAID)


_SAID = ("received_finish_reason", "intermittent_finish_reason")


async def _whole(
    arguments: dict[str, Any], gathering: AnswerBuilder, hearing: StreamLimits, silence: float
) -> tuple[str, Any]:
    """The finish reason, and what was used up, of an answer in one piece."""
    import litellm

    async with hearing.patience(silence):
        response = await litellm.acompletion(**arguments)
    choices = getattr(response, "choices", None)
    if not choices:
        raise _broken_off(gathering, hearing)
    gathering.add(choices[0].message, whole=True)
    return choices[0].finish_reason or "", getattr(response, "usage", None)


async def _close(stream: Any) -> None:
    """Close the connection, unless the answer was read to its end.

    litellm's own closing forgets what is below it, for some providers.
    """
    inner = getattr(stream, "completion_stream", None)
    parts = [stream, *(getattr(inner, name, None) for name in _BELOW)]
    with suppress(Exception):
        async with asyncio.timeout(_CLOSING):
            for part in parts:
                if hasattr(part, "aclose"):
                    with suppress(Exception):
                        await part.aclose()


def _broken_off(gathering: AnswerBuilder, hearing: StreamLimits) -> ProviderError:
    if not gathering.is_empty:
        return ProviderError(
            FailureKind.CONNECTION, "the answer broke off in the middle", passing=True
        )
    # Some say what is wrong with 200, which whoever reads a stream passes over.
    words, is_message = words_in(hearing.head)
    words = one_line(words, LONGEST)
    if is_message:
        return ProviderError(FailureKind.PROVIDER, words, passing=True)
    text = "what came is no answer of a model (is api_base right?)"
    return ProviderError(FailureKind.PROVIDER, f"{text}: {words}" if words else text, passing=True)


def _answer(ask: Ask, provider: str, gathering: AnswerBuilder, finish: str, usage: Any) -> Answer:
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    counted = bool(prompt or completion)  # it makes up zeros
    return Answer(
        text=gathering.text,
        calls=gathering.calls,
        reasoning=gathering.reasoning,
        provider_state=gathering.provider_state(reasoning=wants_thoughts(provider)),
        finish=finish,
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
    return value if isinstance(value, int) and 0 <= value < 1 << 63 else 0


def _told(error: Exception, ask: Ask, provider: str) -> ProviderError:
    try:
        trouble = provider_error_of(error, wait=asked_wait(unwrapped(error)))
    except Exception:  # of something worse than we can imagine
        text = one_line(without_secrets(repr(error)), LONGEST)
        return ProviderError(FailureKind.PROVIDER, text)
    kind, text = trouble.kind, trouble.text
    if kind is FailureKind.UNKNOWN_MODEL and not provider:
        text = f"litellm knows no provider of {ask.model!r}: write it as PROVIDER/MODEL"
    elif kind in (FailureKind.MISSING_KEY, FailureKind.AUTHENTICATION):
        names = keys.missing(provider, os.environ)
        if names:
            kind = FailureKind.MISSING_KEY
            said = f"; the answer was: {text}" if trouble.status else ""
            text = f"there is no key: set {' or '.join(names)}{said}"
    return replace(trouble, kind=kind, text=one_line(text, LONGEST))
