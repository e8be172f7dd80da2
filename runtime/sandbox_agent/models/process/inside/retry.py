"""Retries: when the next attempt is made, and the wait before it."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from sandbox_agent_ipc.model_messages import Piece

from .stream_limits import ALIVE_INTERVAL

FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 30.0
LONGEST_RETRY_AFTER = 120.0
"""Seconds. A provider whose Retry-After is longer is not asked again."""


def backoff(attempt: int, chance: Callable[[], float] = random.random) -> float:
    """Seconds to wait after this attempt, counted from 1. They double with each attempt, and a
    random part of up to one half is taken off, so that clients which failed together do not return
    together."""
    longest = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(attempt - 1, 16))
    return longest * (1 - chance() / 2)


def retry_after(error: Exception, now: Callable[[], float] = time.time) -> float | None:
    """Seconds that the provider's response asks to wait; None if it does not.

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


async def wait_for(seconds: float, tell: Callable[[Piece], None]) -> None:
    """Waits, and sends an "alive" piece every 2 s. Can be cancelled."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        await asyncio.sleep(min(left, ALIVE_INTERVAL))
        if left > ALIVE_INTERVAL:
            tell(Piece("alive", ""))


def _headers(error: Exception) -> list[Mapping[str, Any]]:
    """For some errors litellm makes up an empty response and keeps the true headers elsewhere."""
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
