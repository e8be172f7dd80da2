"""Times, amounts and calls in few words."""

from __future__ import annotations

from collections.abc import Mapping

from sandbox_agent.reports.report import Call


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3:07`, `1:00:00`: no more digits than can be read while they change."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = int(seconds + 0.05)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def tokens(count: float) -> str:
    """`950`, `12.3k`, `1.2M`."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f}".removesuffix(".0") + unit
    return f"{count:.0f}"


def money(dollars: float) -> str:
    return f"${dollars:.4f}" if dollars < 1 else f"${dollars:.2f}"


def call_text(call: Call, most: int = 400) -> str:
    """What a call does, from its arguments: of a command the command alone."""
    arguments = call.arguments
    if not isinstance(arguments, Mapping):
        return str(arguments)[:most]
    values = list(arguments.items())
    if values and (values[0][0] in ("command", "path") or len(values) == 1):
        first = values[0][1]
        rest = ", ".join(f"{name}={_value(value, most)}" for name, value in values[1:4])
        shown = first[:most] if isinstance(first, str) else _value(first, most)
        return f"{shown}, {rest}" if rest else shown
    return ", ".join(f"{name}={_value(value, most)}" for name, value in values[:4])


def _value(value: object, most: int) -> str:
    return repr(value[:most] if isinstance(value, str) else value)[:most]
