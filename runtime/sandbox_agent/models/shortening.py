"""Makes a long conversation fit a model's context window.

The rule: when a request is estimated at more than 80 % of the window, tool results are shortened,
oldest first, until it is at about 60 %. So the beginning of the request stays the same for many
turns, which lets providers cache it. A shortened result stays short. Messages of the user and the
model, calls, and the results of the last turn are never shortened.

A shortened result keeps its first and last 200 characters (whole lines, if there are any), with a
note between them that says how much was left out. It also keeps a last line in brackets, which says
how the call ended. Its images are left out, and the note says so. The journal keeps everything.

`harder` is for a request that a provider refused as too long. It is brought down to 60 % of its
size. If the rule does not suffice, older results are left out completely (except for the note and
the end of the call). At last the results of the last turn are halved, the longest first.

The estimate is one token for four bytes. After the first answer it starts from the provider's count
for the last request, and adds as many tokens for a byte as that request had on average (a quarter
to a half). Without a known window nothing is shortened until a provider refuses a request: from
then on the refused size counts as the context window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
from sandbox_agent_sandbox.outcome import Outcome
from sandbox_agent_sandbox.utf8 import utf8_size

from sandbox_agent.journal.history import (
    AssistantMessage,
    History,
    Message,
    ToolMessage,
    UserMessage,
    answers_in,
    starts_with,
)

HIGH = 0.8
"""Part of the window above which results are shortened."""
LOW = 0.6
"""Part of the window that the request is shortened to."""
KEPT = 200
"""Characters of a shortened result that are kept at its beginning, and at its end."""

_DENSITIES = (0.25, 0.5)
"""Tokens for a byte, at least and at most. The first is used before the provider has counted. A
short conversation would give more than the second, because most of it is descriptions of tools."""
_FRAME = 24
"""Bytes that a message or a call takes beside its text."""
_IMAGE = 6000
"""Bytes of text that cost about as much as an image."""
_LONGEST_STATUS_LINE = 1000
"""Characters of a last line that may say how a call ended. A longer line is output of the tool."""
_LEAST_SAVED = 120
"""Characters. Leaving out fewer saves nothing, because the note takes their place."""


class Shortener:
    """Shortens one conversation, which grows from request to request.

    Far from the limit, the work for a request is proportional to what is new in it.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._history: Sequence[Message] = ()
        self._given: Sequence[Message] = ()
        self._sent: list[Message] | None = None  # None while nothing is shortened
        self._kept: dict[int, int] = {}  # by place: characters that a shortened result keeps
        self._changed: set[int] = set()  # places that are not updated in `_sent` yet
        self._results: list[int] = []  # places
        self._next = 0  # index in _results of the first that is not shortened
        self._last_turn = 0  # the place of the last answer
        self._bytes = 0
        self._refused = math.inf  # bytes of the smallest request that a provider refused
        self._density, self._offset = _DENSITIES[0], 0.0

    @property
    def tokens(self) -> int:
        """An estimate for the last result of `fit`."""
        return max(0, math.ceil(self._tokens(self._bytes)))

    def fit(
        self, history: Sequence[Message], window: int | None, *, harder: bool = False
    ) -> Sequence[Message]:
        """The messages to send for `history`: itself, as long as it fits.

        history: of the same conversation as before; another one starts again. window: in tokens;
        None if it is not known. harder: the provider refused the last result for the same history.
        If nothing is left to shorten, the result is the same again.
        """
        self._add_new(history)
        if harder:
            self._refused = min(self._refused, self._bytes)
        window_now = min(window or math.inf, self._tokens(self._refused))
        if harder:
            self._shorten_harder(LOW * self._tokens(self._bytes))
        elif self._tokens(self._bytes) > HIGH * window_now:
            self._shorten_old(LOW * window_now)
        self._update_sent()
        self._given = history if self._sent is None else History(self._sent, answers_in(history))
        return self._given

    def counted(self, sent: Sequence[Message], tokens: int) -> None:
        """Takes the provider's count of tokens for the last result of `fit`, everything that was
        sent with it included. A count for another request is ignored."""
        if sent is not self._given or tokens <= 0 or not self._bytes:
            return
        least, most = _DENSITIES
        self._density = min(max(tokens / self._bytes, least), most)
        self._offset = tokens - self._density * self._bytes

    # -----------------------------------------------------------------------------------------

    def _tokens(self, size: float) -> float:
        return self._offset + self._density * size

    def _add_new(self, history: Sequence[Message]) -> None:
        """Adds the new messages."""
        if not starts_with(history, self._history):
            self._reset()
        for place in range(len(self._history), len(history)):
            message = history[place]
            self._bytes += _size(message)
            if isinstance(message, AssistantMessage):
                self._last_turn = place
            elif isinstance(message, ToolMessage):
                self._results.append(place)
            if self._sent is not None:
                self._sent.append(message)
        self._history = history

    def _shorten_old(self, target: float) -> None:
        """Applies the rule."""
        while self._next < len(self._results) and self._tokens(self._bytes) > target:
            place = self._results[self._next]
            if place >= self._last_turn:
                return
            self._shorten(place, KEPT)
            self._next += 1

    def _shorten_harder(self, target: float) -> None:
        """Applies the rule, and what `harder` adds to it."""
        self._shorten_old(target)
        for place in self._results:
            if place >= self._last_turn or self._tokens(self._bytes) <= target:
                break
            self._shorten(place, 0)
        latest = [place for place in self._results if place >= self._last_turn]
        while latest and self._tokens(self._bytes) > target:
            longest = max(latest, key=lambda place: _size(self._now(place)))
            half = max(KEPT, len(self._now(longest).content) // 4)
            if not self._shorten(longest, half):
                latest.remove(longest)

    def _now(self, place: int) -> ToolMessage:
        message = self._history[place]
        assert isinstance(message, ToolMessage)
        return shortened(message, self._kept[place]) if place in self._kept else message

    def _shorten(self, place: int, characters: int) -> bool:
        """Shortens a result to so many characters at either end. False if that saves nothing."""
        before = self._now(place)
        message = self._history[place]
        assert isinstance(message, ToolMessage)
        after = shortened(message, characters)
        if _size(after) >= _size(before):
            return False
        self._kept[place] = characters
        self._changed.add(place)
        self._bytes += _size(after) - _size(before)
        return True

    def _update_sent(self) -> None:
        if not self._changed:
            return
        # A new list: the caller may still use the last one. What is shortened is made one by one:
        # a long history is on the disk.
        before = self._history if self._sent is None else self._sent
        self._sent = [
            self._now(place) if place in self._changed else before[place]
            for place in range(len(before))
        ]
        self._changed.clear()


def shortened(message: ToolMessage, keep: int = KEPT) -> ToolMessage:
    """`message` with at most `keep` characters of its beginning and of its end, a note between
    them, and the line that says how the call ended. The message itself, if that saves nothing."""
    text, end = _split_status(message)
    head, tail = _head(text, keep), _tail(text, keep)
    left_out = len(text) - len(head) - len(tail)
    if left_out < _LEAST_SAVED:
        if not message.images:
            return message
        head, tail, left_out = text, "", 0
    count = len(message.images)
    images = f"{count} image{'s' if count > 1 else ''}" if count else ""
    characters = f"{left_out} characters" if left_out else ""
    what = " and ".join(part for part in (characters, images) if part)
    note = f"[... {what} left out to fit the context; ask again for what is needed ...]"
    content = "\n".join(part for part in (head, note, tail, end) if part)
    return msgspec.structs.replace(message, content=content, images=())


def _split_status(message: ToolMessage) -> tuple[str, str]:
    """The output of a call, and the line that says how it ended."""
    text, newline, last = message.content.rpartition("\n")
    # Other outcomes always have the line, however long the reason is.
    always = message.outcome not in (Outcome.OK, Outcome.ERROR)
    is_end = newline and last.startswith("[") and last.endswith("]")
    if is_end and (always or len(last) <= _LONGEST_STATUS_LINE):
        return text, last
    return message.content, ""


def _head(text: str, keep: int) -> str:
    newline = text.rfind("\n", keep // 2, keep + 1)
    return text[: newline if newline >= 0 else keep]


def _tail(text: str, keep: int) -> str:
    start = max(0, len(text) - keep)
    newline = text.find("\n", max(0, start - 1), len(text) - keep // 2)
    return text[newline + 1 if newline >= 0 else start :]


def _size(message: Message) -> int:
    """Bytes that a message takes, roughly."""
    match message:
        case UserMessage():
            return _FRAME + utf8_size(message.text)
        case ToolMessage():
            return _FRAME + utf8_size(message.content) + _IMAGE * len(message.images)
    size = _FRAME + utf8_size(message.text) + _json_size(message.provider_state)
    for call in message.calls:
        arguments = call.arguments
        given = utf8_size(arguments) if isinstance(arguments, str) else _json_size(arguments)
        size += _FRAME + utf8_size(call.tool) + given + _json_size(call.provider_state)
    return size


def _json_size(data: object) -> int:
    return len(msgspec.json.encode(data)) if data else 0
