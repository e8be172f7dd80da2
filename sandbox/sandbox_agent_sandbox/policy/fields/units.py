"""Durations, sizes and counts as people write them: `1h30m`, `256MiB`, `200k`.

Every function raises ValueError with a message that names the value and the accepted forms.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from sandbox_agent_sandbox.put_off import expression

MAX_DURATION = 3650 * 86400.0
"""Seconds (ten years). Deadlines travel as 64-bit nanoseconds."""

MAX_SIZE = 2**63 - 1
"""Bytes: the largest finite value that setrlimit(2) and off_t take."""

DURATION_FORMS = "a number of seconds, or a number with ms, s, m, h or d, like 500ms, 90s or 1h30m"
SIZE_FORMS = "a number of bytes, or a number with kB, MB, GB, KiB, MiB or GiB, like 64k or 256MiB"
COUNT_FORMS = "a whole number, or one with k or M, like 200k"

_SECONDS: Mapping[str, float] = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_PART = expression(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|min|s|m|h|d)\s*")
_NUMBER = expression(r"[0-9]+(?:\.[0-9]+)?")
_SIZE = expression(r"([0-9]+(?:\.[0-9]+)?)\s*(?:([kmgt])(i?)b?|b)?", re.IGNORECASE)
_COUNT = expression(r"([0-9]+(?:\.[0-9]+)?)([km]?)", re.IGNORECASE)
_POWER = {"k": 1, "m": 2, "g": 3, "t": 4}
_MAX_TEXT = 40  # characters; also keeps int() and float() of hostile digits cheap


def _refuse(what: str, value: object, forms: str) -> ValueError:
    return ValueError(f"{_short(value)} is not a {what}; write {forms}")


def parse_duration(value: object) -> float:
    """Seconds. `value`: a number (seconds) or text such as "120s", "500ms", "2m", "1h30m".

    Raises ValueError when it is anything else, negative, not finite, or above ten years.
    """
    seconds: float | None = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        if abs(value) <= MAX_DURATION:
            seconds = float(value)
        elif value > 0:  # neither NaN nor far below zero
            seconds = math.inf
    elif isinstance(value, str) and len(value) <= _MAX_TEXT:
        seconds = _text_seconds(value.strip())
    if seconds is None or seconds < 0:
        raise _refuse("duration", value, DURATION_FORMS)
    if seconds > MAX_DURATION:
        raise ValueError(f"{_short(value)} is too long a duration; the longest is 3650d")
    return seconds


def _text_seconds(text: str) -> float | None:
    if _NUMBER.fullmatch(text):
        return float(text)
    total, position, seen = 0.0, 0, set()
    while match := _PART.match(text, position):
        number, unit = match.groups()
        if _SECONDS[unit] in seen:  # "1m1m" is a mistake, not a sum
            return None
        seen.add(_SECONDS[unit])
        total += float(number) * _SECONDS[unit]
        position = match.end()
    return total if seen and position == len(text) else None


def parse_size(value: object) -> int:
    """Bytes. `value`: a whole number (bytes) or text such as "1GiB", "10MB", "64k".

    kB, MB, GB (and k, M, G) are powers of 1000; KiB, MiB, GiB (and Ki, Mi, Gi) of 1024. Case does
    not matter. Raises ValueError when it is anything else, negative, or above 2**63 - 1.
    """
    size: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, float) and value.is_integer():
        size = int(value)
    elif isinstance(value, str) and len(value) <= _MAX_TEXT:
        match = _SIZE.fullmatch(value.strip())
        if match:
            number, prefix, binary = match.groups()
            unit = (1024 if binary else 1000) ** _POWER[prefix.lower()] if prefix else 1
            size = _whole(number, unit)
    if size is None or size < 0:
        raise _refuse("size", value, SIZE_FORMS)
    if size > MAX_SIZE:
        raise ValueError(f"{_short(value)} is too large a size; the largest is {MAX_SIZE} bytes")
    return size


def parse_count(value: object) -> int:
    """A whole number. `value`: an int, or text such as "256" or "200k" (k and M: powers of 1000).

    Raises ValueError when it is anything else, negative, or above 2**63 - 1.
    """
    count: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        count = value
    elif isinstance(value, float) and value.is_integer():
        count = int(value)
    elif isinstance(value, str) and len(value) <= _MAX_TEXT:
        match = _COUNT.fullmatch(value.strip())
        if match:
            number, prefix = match.groups()
            count = _whole(number, 1000 ** _POWER[prefix.lower()] if prefix else 1)
    if count is None or not 0 <= count <= MAX_SIZE:
        raise _refuse("count", value, COUNT_FORMS)
    return count


def _whole(number: str, unit: int) -> int | None:
    """`number` x `unit` exactly, or None when a fraction is left ("1.5" bytes)."""
    integer, _, fraction = number.partition(".")
    numerator = int(integer + fraction) * unit
    whole, rest = divmod(numerator, 10 ** len(fraction))
    return None if rest else whole


def _short(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 64:
        return "the value"  # repr() of thousands of digits is refused by Python itself
    shown = repr(value)
    return shown if len(shown) <= _MAX_TEXT + 2 else shown[:_MAX_TEXT] + "..."
