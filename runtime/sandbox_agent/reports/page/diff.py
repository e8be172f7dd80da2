"""The diff of an edit: a call of `edit_file` says which text it replaced by which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from sandbox_agent.reports.page.texts import Texts, visible

_COMPARED = 10_000
"""Lines of one text times lines of the other, up to which they are compared in full. difflib needs
more than that much time."""
_WIDTH = 400


class Line(NamedTuple):
    """sign: `+`, `-` or a space."""

    sign: str
    text: str


@dataclass(frozen=True)
class Diff:
    """left_out: lines that are not shown."""

    lines: tuple[Line, ...]
    left_out: int = 0


def diff_of(tool: str, arguments: dict[str, Any] | str, texts: Texts) -> Diff | None:
    """The diff that a call asked for; None if it is no edit."""
    if tool != "edit_file" or not isinstance(arguments, dict):
        return None
    old, new = arguments.get("old"), arguments.get("new")
    if not isinstance(old, str) or not isinstance(new, str):
        return None
    lines = _compared(
        texts.mask.apply(old).replace("\r\n", "\n").split("\n"),
        texts.mask.apply(new).replace("\r\n", "\n").split("\n"),
    )
    return _cut(lines, texts.limit)


def _compared(old: list[str], new: list[str]) -> list[Line]:
    if len(old) * len(new) > _COMPARED:
        return _replaced(old, new)
    import difflib

    lines: list[Line] = []
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        if kind == "equal":
            lines += [Line(" ", text) for text in old[i1:i2]]
        else:
            lines += [Line("-", text) for text in old[i1:i2]]
            lines += [Line("+", text) for text in new[j1:j2]]
    return lines


def _replaced(old: list[str], new: list[str]) -> list[Line]:
    """One replacement, without the lines at the beginning and the end that both have."""
    most = min(len(old), len(new))
    same = next((n for n in range(most) if old[n] != new[n]), most)
    most -= same
    alike = next((n for n in range(most) if old[-1 - n] != new[-1 - n]), most)
    return [
        *(Line(" ", text) for text in old[:same]),
        *(Line("-", text) for text in old[same : len(old) - alike]),
        *(Line("+", text) for text in new[same : len(new) - alike]),
        *(Line(" ", text) for text in old[len(old) - alike :]),
    ]


def _cut(lines: list[Line], limit: int) -> Diff:
    """At most `limit` characters, and as much markup."""
    shown: list[Line] = []
    room = limit
    for sign, text in lines:
        short = text if len(text) <= _WIDTH else text[:_WIDTH] + "..."
        room -= len(short) + 24
        if room < 0 and shown:
            break
        shown.append(Line(sign, visible(short)))
    return Diff(tuple(shown), len(lines) - len(shown))
