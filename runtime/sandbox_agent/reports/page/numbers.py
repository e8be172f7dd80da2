"""Numbers as people read them."""

from __future__ import annotations

import re


def duration(seconds: float | None) -> str:
    """`350 ms`, `3.2 s`, `2 min 5 s`, `1 h 2 min`; "" for None."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def when(at: str) -> str:
    """A time of the journal: `2026-11-28 05:50:29 UTC`. As it is, if it has another form."""
    if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", at, re.ASCII) is None:
        return at
    return f"{at[:10]} {at[11:19]} UTC"


def dollars(cost: float | None) -> str:
    """`$1.25`, `$0.0042`; "" for None."""
    if cost is None:
        return ""
    return f"${cost:,.2f}" if cost >= 1 or cost == 0 else f"${cost:.4g}"


def count(number: int, one: str, many: str = "") -> str:
    """`1 turn`, `2,000 turns`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
