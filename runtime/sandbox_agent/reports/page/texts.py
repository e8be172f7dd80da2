"""Texts for the page. All of them may be hostile: each is masked, then cut, then its control
characters are made visible. The template escapes what means something in HTML.

The order matters. A cut through a secret would hide it from the mask, and an escaped one looks
different.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox_agent.reports.escape import escape_text, one_line
from sandbox_agent.reports.report import Text

if TYPE_CHECKING:
    from sandbox_agent.reports.mask import Mask

_MARGIN = 1024
"""Characters beside a cut in which the mask looks for a secret."""
_READ = 8192
"""Characters of a text that are looked at for a line of some 100."""


class Shown(NamedTuple):
    """A text as the page shows it. tail: "" if nothing is left out between head and tail."""

    head: str
    tail: str = ""
    left_out: int = 0


NOTHING = Shown("")


@dataclass(frozen=True)
class Texts:
    """limit: characters of a text that are shown. A longer one loses its middle."""

    mask: Mask
    limit: int

    def block(self, text: Text | str, limit: int | None = None) -> Shown:
        """A text of several lines."""
        most = self.limit if limit is None else limit
        kept = _shorter(text if isinstance(text, Text) else Text.of(text), most // 2 + _MARGIN)
        whole = self.mask.apply(kept.whole()).replace("\r\n", "\n")
        if len(whole) <= most:
            return Shown(visible(whole))
        head, tail = _head(whole, most // 2), _tail(whole, most // 2)
        left_out = len(whole) - len(head) - len(tail)
        if kept.left_out:
            # `whole` says in a line of its own how much is left out already.
            left_out += kept.left_out - (len(kept.whole()) - len(kept.head) - len(kept.tail))
        return Shown(visible(head), visible(tail), max(left_out, 1))

    def line(self, text: str, width: int = 160) -> str:
        """The beginning of a text, on one line."""
        return one_line(self.mask.apply(text[:_READ]), width)

    def value(self, value: Any, limit: int) -> Shown:
        """An argument or a setting."""
        return self.block(value if isinstance(value, str) else as_json(value), limit)


def _shorter(text: Text, most: int) -> Text:
    """The text with at most so many characters of its beginning and of its end: to look for secrets
    takes time."""
    if len(text.head) + len(text.tail) <= 2 * most:
        return text
    head, tail = text.head[:most], (text.tail or text.head)[-most:]
    left_out = len(text.head) + len(text.tail) + text.left_out - len(head) - len(tail)
    return Text(head, tail, left_out)


def visible(text: str) -> str:
    """`text` with its control characters as `\\x1b`. A byte order mark is one of them: it has no
    width, so a reader would not see what stands between two words."""
    return escape_text(text).replace("\ufeff", "\\ufeff")


def as_json(value: Any) -> str:
    """A value for a reader: JSON with two spaces of indentation."""
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def _head(text: str, most: int) -> str:
    """The beginning, up to the end of a line if that is not far."""
    head = text[:most]
    end = head.rfind("\n") + 1
    return head[:end] if end > most // 2 else head


def _tail(text: str, most: int) -> str:
    """The end, from the beginning of a line on if that is not far."""
    tail = text[len(text) - most :]
    start = tail.find("\n") + 1
    return tail[start:] if 0 < start < most // 2 else tail
