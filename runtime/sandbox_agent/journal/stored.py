"""Events that stay on the disk until they are asked for.

The tools of a long run print hundreds of megabytes. Who resumes it needs the last few. So the state
of a run that is read from its journal keeps of a long event where it is, and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar, overload

import msgspec

from sandbox_agent.errors import NotRecorded
from sandbox_agent.journal.events import AnyEvent, Ended, TurnTaken, UserText
from sandbox_agent.journal.file import Line, ReadPart, decode_line

LONG = 1024
"""Bytes. A longer line stays on the disk."""

E = TypeVar("E", bound=AnyEvent)


class Source(msgspec.Struct, frozen=True):
    """The journal that events are loaded from. name: for messages."""

    read: ReadPart
    name: str


class Stored(msgspec.Struct, Generic[E], frozen=True, gc=False):
    """An event on the disk. number: of its line, counted from 1. kind: of the event."""

    source: Source
    number: int
    offset: int
    length: int
    kind: type[E]

    def load(self) -> E:
        """Read the event. Raises NotRecorded if the disk fails or the journal was changed since,
        and JournalError for a line that is not an event any more."""
        source = self.source
        try:
            data = source.read(self.offset, self.length)
        except OSError as error:
            raise NotRecorded(f"{source.name} cannot be read: {error.strerror}") from None
        event = decode_line(data, source.name, self.number)
        if type(event) is not self.kind:
            raise NotRecorded(f"{source.name} was changed by another program")
        return event


def stored(source: Source, line: Line) -> Stored[Any] | None:
    """Where the event of a line is, if it is long enough to stay there."""
    if line.length <= LONG or not isinstance(line.event, UserText | TurnTaken | Ended):
        return None
    return Stored(source, line.number, line.offset, line.length, type(line.event))


class Loaded(Sequence[E]):
    """Events, of which some are on the disk. Each of those is loaded when you ask for it."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: list[E | Stored[Any]] = []

    def append(self, event: E | Stored[Any]) -> None:
        """Add an event."""
        self._items.append(event)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, place: int) -> E: ...
    @overload
    def __getitem__(self, place: slice) -> list[E]: ...
    def __getitem__(self, place: int | slice) -> E | list[E]:
        if isinstance(place, slice):
            return [self._load(item) for item in self._items[place]]
        return self._load(self._items[place])

    def _load(self, item: E | Stored[Any]) -> E:
        loaded: E = item.load() if isinstance(item, Stored) else item
        return loaded
