"""Times, sizes and costs as people read them in reports of runs."""

from __future__ import annotations

from datetime import UTC, datetime

_AGES = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"))


def dollars(cost: float | None) -> str:
    """ "$0.0123", "$12.30"; "-" if no cost is known."""
    if cost is None:
        return "-"
    return f"${cost:.4f}" if 0 < cost < 1 else f"${cost:.2f}"


def count(number: int, noun: str) -> str:
    """ "1 call", "1,200 calls"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """ "0.21 s", "12.3 s", "2 min 05 s", "1 h 02 min"."""
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(number: int) -> str:
    """ "812 bytes", "3.4 kB", "1.2 MB"."""
    if number < 1000:
        return count(number, "byte")
    for power, unit in enumerate(("kB", "MB", "GB"), 1):
        if number < 1000 ** (power + 1) or unit == "GB":
            return f"{number / 1000**power:.1f} {unit}"
    raise AssertionError


def age(at: str | None, now: float) -> str:
    """How long ago a time of the journal was, in one unit: "5m", "3d"; "-" if it is not known.

    now: seconds since the epoch. 0 for a time to come: the clock was set back.
    """
    seconds = seconds_since(at, now)
    if seconds is None:
        return "-"
    for length, unit in _AGES:
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return "0s"


def seconds_since(at: str | None, now: float) -> float | None:
    """Seconds from a time of the journal until `now`; None if it is no time."""
    then = _moment(at)
    return None if then is None else max(0.0, now - then.timestamp())


def moment(at: str) -> str:
    """A time of the journal, to the second: "2026-11-28 00:24:46 UTC"."""
    then = _moment(at)
    return "at an unknown time" if then is None else f"{then.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _moment(at: str | None) -> datetime | None:
    try:
        then = datetime.fromisoformat(at or "")
        return then if then.tzinfo is not None else then.replace(tzinfo=UTC)
    except ValueError:
        return None
