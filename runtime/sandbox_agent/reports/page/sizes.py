"""How much of a run fits on a page that opens in a second: which turns and calls, and how many
characters of each text. Counted before anything is written, because a page is written in one go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sandbox_agent.reports.page.texts import as_json
from sandbox_agent.reports.report import Call, Message, Report, Text, Turn

PAGE = 2_800_000
"""Bytes that a page is planned for. It stays under 3 MB where the estimate is a little short."""
LIMITS = (4096, 3072, 2048, 1536, 1024, 768, 512, 384, 256, 192, 128)
"""Characters of a text that are shown: the first of these with which all fit."""
ARGUMENTS = 24
"""Arguments of a call that are shown."""
HEADING = 120
"""Characters of the main argument of a call that are shown while it is folded."""

_FRAME = 60_000
_ENTRY = 260
_CALL = 540
_ARGUMENT = 85
_SEGMENT = 700
_ROW = 170
"""Bytes of markup: of the page, a turn or message, a call, an argument, a segment, a row of the
table of costs."""
_HEAD_PART = 0.3
"""Of the turns that fit, so many are the first ones. What a reader looks for is at the end."""
_DIFF = 2.5
"""An edit is shown as a diff, which has markup in each line."""

_SAMPLE = 1024
"""Characters of the beginning and of the end of a text that are looked at."""
_ESCAPED = re.compile(r"[^\n\t\x20-\x7e\xa0-\u1fff\u2070-\ud7ff\ue000-\ufefe\uff00-\U0010ffff]+")
"""All that `escape_text` may make up to six bytes of."""


@dataclass(frozen=True)
class Plan:
    """What the page shows. limit: characters of each text. calls: the ids of the calls. entries:
    the indexes of the entries."""

    limit: int
    entries: frozenset[int]
    calls: frozenset[str]

    def shows(self, call: Call) -> bool:
        """Whether the page has this call."""
        return call.id in self.calls


@dataclass(frozen=True)
class _Measured:
    """length: characters. heavy: bytes in HTML of each character, on average."""

    length: int
    heavy: float

    def bytes(self, limit: int) -> float:
        """Of the text, when at most `limit` characters are shown."""
        return min(self.length, limit) * self.heavy


@dataclass(frozen=True)
class _Unit:
    """A part of the page that is shown or left out. name: the index of an entry, or the id of a
    call. markup: bytes without its texts."""

    name: int | str
    markup: int
    texts: tuple[_Measured, ...]

    def bytes(self, limit: int) -> float:
        """When at most `limit` characters of each text are shown."""
        return self.markup + sum(text.bytes(limit) for text in self.texts)


def plan(report: Report, drawing: int, rows: int) -> Plan:
    """drawing: bytes of the timelines. rows: of the table of costs."""
    images = sum(len(one.data) for call in report.calls.values() for one in call.images) * 4 // 3
    room = PAGE - _FRAME - drawing - images - _ROW * rows - _SEGMENT * len(report.segments)
    units = _kept(_units(report), room)
    for limit in LIMITS:
        if sum(unit.bytes(limit) for unit in units) <= room:
            break
    calls = {unit.name for unit in units if isinstance(unit.name, str)}
    entries = {unit.name for unit in units if isinstance(unit.name, int)}
    # A call stands below its turn, so the turn is there too.
    entries |= {
        index
        for index, entry in enumerate(report.entries)
        if isinstance(entry, Turn) and calls.intersection(entry.calls)
    }
    return Plan(limit, frozenset(entries), frozenset(calls))


def _kept(units: list[_Unit], room: int) -> list[_Unit]:
    """The first and the last ones, if not all fit."""
    costs = [unit.bytes(LIMITS[-1]) for unit in units]
    if sum(costs) <= room:
        return units
    head = _fitting(costs, room * _HEAD_PART)
    tail = _fitting(costs[::-1], room * (1 - _HEAD_PART))
    return units[:head] + units[max(head, len(units) - tail) :]


def _fitting(costs: list[float], room: float) -> int:
    for count, cost in enumerate(costs):
        room -= cost
        if room < 0:
            return count
    return len(costs)


def _units(report: Report) -> list[_Unit]:
    """In the order of the page."""
    units: list[_Unit] = []
    made: set[str] = set()
    for index, entry in enumerate(report.entries):
        units.append(_entry(index, entry))
        if isinstance(entry, Turn):
            units += [_call(report.calls[name]) for name in entry.calls if name in report.calls]
            made.update(entry.calls)
    return units + [_call(call) for call in report.calls.values() if call.id not in made]


def _entry(index: int, entry: Message | Turn) -> _Unit:
    texts = [entry.text, entry.reasoning] if isinstance(entry, Turn) else [entry.text]
    return _Unit(index, _ENTRY, tuple(_measure(text) for text in texts if text))


def _call(call: Call) -> _Unit:
    arguments = call.arguments
    number = len(arguments) if isinstance(arguments, dict) else 1
    given = _measure(_as_shown(arguments))
    if call.tool == "edit_file":
        given = _Measured(given.length, given.heavy * _DIFF)
    heading = _measure(call.command) if call.command is not None else given
    facts = _measure(call.detail).bytes(1000) + heading.bytes(HEADING)
    markup = _CALL + _ARGUMENT * min(number, ARGUMENTS) + int(facts)
    return _Unit(call.id, markup, (given, _measure(call.output)))


def _as_shown(arguments: dict[str, Any] | str) -> str:
    if isinstance(arguments, str):
        return arguments
    values = arguments.values()
    return "\n".join(value if isinstance(value, str) else as_json(value) for value in values)


def _measure(text: Text | str) -> _Measured:
    if isinstance(text, Text):
        length, sample = len(text.head) + len(text.tail), text.head + text.tail[-_SAMPLE:]
    else:
        length, sample = len(text), text
    if len(sample) > 2 * _SAMPLE:
        sample = sample[:_SAMPLE] + sample[-_SAMPLE:]
    if not sample:
        return _Measured(0, 1.0)
    escaped = 5 * (len(sample) - len(_ESCAPED.sub("", sample)))
    marks = 4 * sum(map(sample.count, "<>&\"'"))
    size = len(sample.encode("utf-8", "surrogatepass"))
    return _Measured(length, (size + escaped + marks) / len(sample))
