"""Makes a long conversation fit a model's context window.

The rule. When what is to be sent is estimated at more than 80 % of the window, results of tools
are shortened, oldest first, until it is at about 60 %: so the beginning of what is sent stays the
same for many turns, which is what providers cache. What is shortened stays shortened. Never
touched are what the user and the model said, the calls, and the results of the last turn.

A shortened result keeps its first and its last 200 characters (whole lines, where there are any),
a note of how much was left out between them, and its last line if that stands in brackets: that is
where a call's end is told. Its images are left out, and the note says so. The journal keeps all of
it.

`harder` is for after a provider has refused what was sent as too long. It is then brought down to
60 % of its size, and where the rule does not suffice, older results are left out whole (but for the
note and the end of the call), and at last those of the last turn are halved, the longest first.

The estimate is a token for four bytes, and after the first answer what the provider counted for
what was sent, and from there on as many tokens for a byte as it had on average (between a fourth
and a half). Without a window there is no rule, until a provider has refused something: what it
refused is taken for the window then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
from sandbox_agent_sandbox.outcome import Outcome

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
"""Of the window: beyond it something is shortened."""
LOW = 0.6
"""Of the window: what is shortened down to."""
KEPT = 200
"""Characters of a result that are kept at its beginning, and at its end."""

_DENSITIES = (0.25, 0.5)
"""Tokens for a byte, at least and at most. The first is also what is taken before anybody counted.
A short conversation would give more than the second: it is mostly descriptions of tools."""
_FRAME = 24
"""Bytes that a message, and a call, takes beside its text."""
_IMAGE = 6000
"""Bytes of text that cost as much as an image, about."""
_LONGEST_END = 1000
"""Characters of a last line that may be how a call ended. Beyond, it is some tool's output."""
_WORTH_IT = 120
"""Characters. Leaving out fewer would save nothing: the note takes their place."""


class Shortener:
    """Shortens one conversation, which grows from one request to the next.

    While it is far from the limit, a request costs as much as has been said since the last one.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._history: Sequence[Message] = ()
        self._given: Sequence[Message] = ()
        self._sent: list[Message] | None = None  # None while it is the history as it is
        self._kept: dict[int, int] = {}  # by place: what a shortened result keeps
        self._changed: set[int] = set()  # places that `_sent` does not know of yet
        self._results: list[int] = []  # places
        self._next = 0  # of _results: the first that the rule has not come to
        self._last_turn = 0  # the place of the last answer
        self._bytes = 0
        self._refused = math.inf  # bytes that a provider did not take
        self._density, self._offset = _DENSITIES[0], 0.0

    @property
    def tokens(self) -> int:
        """An estimate of what `fit` gave last."""
        return max(0, math.ceil(self._tokens(self._bytes)))

    def fit(
        self, history: Sequence[Message], window: int | None, *, harder: bool = False
    ) -> Sequence[Message]:
        """What to send of `history`: itself, as long as it fits.

        history: of the same conversation as before; another one begins anew. window: in tokens;
        None where it is not known. harder: the provider has refused what this gave for the same
        history. When nothing is left to be shortened it gives the same once more.
        """
        self._take(history)
        if harder:
            self._refused = min(self._refused, self._bytes)
        window_now = min(window or math.inf, self._tokens(self._refused))
        if harder:
            self._press(LOW * self._tokens(self._bytes))
        elif self._tokens(self._bytes) > HIGH * window_now:
            self._shorten_old(LOW * window_now)
        self._rewrite()
        self._given = history if self._sent is None else History(self._sent, answers_in(history))
        return self._given

    def counted(self, sent: Sequence[Message], tokens: int) -> None:
        """The provider has counted so many tokens for what `fit` gave last, all that goes with it
        included. Of anything else it is not heard."""
        if sent is not self._given or tokens <= 0 or not self._bytes:
            return
        least, most = _DENSITIES
        self._density = min(max(tokens / self._bytes, least), most)
        self._offset = tokens - self._density * self._bytes

    # -----------------------------------------------------------------------------------------

    def _tokens(self, size: float) -> float:
        return self._offset + self._density * size

    def _take(self, history: Sequence[Message]) -> None:
        """Hear what is new."""
        if not starts_with(history, self._history):
            self._forget()
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
        """The rule."""
        while self._next < len(self._results) and self._tokens(self._bytes) > target:
            place = self._results[self._next]
            if place >= self._last_turn:
                return
            self._keep(place, KEPT)
            self._next += 1

    def _press(self, target: float) -> None:
        """The rule, and beyond it."""
        self._shorten_old(target)
        for place in self._results:
            if place >= self._last_turn or self._tokens(self._bytes) <= target:
                break
            self._keep(place, 0)
        latest = [place for place in self._results if place >= self._last_turn]
        while latest and self._tokens(self._bytes) > target:
            longest = max(latest, key=lambda place: _size(self._now(place)))
            half = max(KEPT, len(self._now(longest).content) // 4)
            if not self._keep(longest, half):
                latest.remove(longest)

    def _now(self, place: int) -> ToolMessage:
        message = self._history[place]
        assert isinstance(message, ToolMessage)
        return shortened(message, self._kept[place]) if place in self._kept else message

    def _keep(self, place: int, characters: int) -> bool:
        """Keep no more than that of a result, at either end. False when it is no shorter for it."""
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

    def _rewrite(self) -> None:
        if not self._changed:
            return
        # A new list: what was given away before stays as it is.
        self._sent = list(self._history if self._sent is None else self._sent)
        for place in self._changed:
            self._sent[place] = self._now(place)
        self._changed.clear()


def shortened(message: ToolMessage, keep: int = KEPT) -> ToolMessage:
    """`message` with at most so many characters of its beginning and of its end, a note between
    them, and the line that says how the call ended. Itself, when that would save nothing."""
    text, end = _apart(message)
    head, tail = _head(text, keep), _tail(text, keep)
    left_out = len(text) - len(head) - len(tail)
    if left_out < _WORTH_IT:
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


def _apart(message: ToolMessage) -> tuple[str, str]:
    """What a call said, and the line that says how it ended."""
    text, newline, last = message.content.rpartition("\n")
    # Of other outcomes it is said always, however long the reason is.
    said_always = message.outcome not in (Outcome.OK, Outcome.ERROR)
    is_end = newline and last.startswith("[") and last.endswith("]")
    if is_end and (said_always or len(last) <= _LONGEST_END):
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
    """Bytes that a message takes, about."""
    match message:
        case UserMessage():
            return _FRAME + _bytes_of(message.text)
        case ToolMessage():
            return _FRAME + _bytes_of(message.content) + _IMAGE * len(message.images)
    size = _FRAME + _bytes_of(message.text) + _json_of(message.provider_state)
    for call in message.calls:
        arguments = call.arguments
        said = _bytes_of(arguments) if isinstance(arguments, str) else _json_of(arguments)
        size += _FRAME + _bytes_of(call.tool) + said + _json_of(call.provider_state)
    return size


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _json_of(data: object) -> int:
    return len(msgspec.json.encode(data)) if data else 0
