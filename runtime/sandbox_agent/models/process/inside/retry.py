"""Asking again: when, and waiting for it."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from sandbox_agent_ipc.model_messages import Piece

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
LONGEST_ASKED = 120.0
"""Seconds. Who asks for more than this with Retry-After is not asked again."""

_SIGN_OF_LIFE = 2.0


def pause(attempt: int, chance: Callable[[], float] = random.random) -> float:
    """Seconds to wait after this attempt, counted from 1: twice as long after each, and by chance
    up to half of it shorter, so that many who failed together do not come back together."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt - 1, 16))
    return longest * (1 - chance() / 2)


def asked_wait(error: Exception, now: Callable[[], float] = time.time) -> float | None:
    """Seconds that the provider's answer asks to wait; None if it does not.

    Source: RFC 9110, 10.2.3, and OpenAI's `retry-after-ms`.
    """
    for headers in _headers(error):
        milliseconds = _number(headers.get("retry-after-ms"))
        if milliseconds is not None:
            return milliseconds / 1000
        text = headers.get("retry-after")
        seconds = _number(text)
        if seconds is not None:
            return seconds
        if isinstance(text, str):
            try:
                return max(0.0, parsedate_to_datetime(text).timestamp() - now())
            except (ValueError, TypeError, OverflowError, IndexError):
                continue
    return None


async def rest(seconds: float, tell: Callable[[Piece], None]) -> None:
    """Waits so long, and gives a sign of life every 2 s. Can be cancelled."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        await asyncio.sleep(min(left, _SIGN_OF_LIFE))
        if left > _SIGN_OF_LIFE:
            tell(Piece("alive", ""))


def _headers(error: Exception) -> list[Mapping[str, Any]]:
    """litellm makes up an empty response for some errors, and keeps the true headers apart."""
    found = [getattr(error, "litellm_response_headers", None)]
    found.append(getattr(getattr(error, "response", None), "headers", None))
    lower: list[Mapping[str, Any]] = []
    for headers in found:
        try:
            lower.append({str(name).lower(): value for name, value in dict(headers or {}).items()})
        except (TypeError, ValueError):
            continue
    return lower


def _number(text: Any) -> float | None:
    try:
        number = float(text)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number >= 0 else None
