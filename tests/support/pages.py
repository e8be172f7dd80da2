"""Reads a page as a browser does, and says what in it is not allowed."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from html.parser import HTMLParser

_TAGS = (
    "html head meta title link style body a header h1 h2 h3 p span div dl dt dd nav main section"
    " details summary svg path text rect polyline ul li b article pre code ins del img table thead"
    " tbody tr th td footer"
)
_ATTRIBUTES = (
    "lang charset http-equiv content name rel href class id tabindex role aria-label viewbox x y d"
    " width height text-anchor points open src alt decoding loading scope"
)
TAGS = frozenset(_TAGS.split())
ATTRIBUTES = frozenset(_ATTRIBUTES.split())
_VOID = frozenset({"meta", "link", "img", "path", "polyline", "rect"})


class Read(HTMLParser):
    """What a page holds. tags: how often each one begins. text: all texts, for a reader."""

    def __init__(self, page: Iterable[str]) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.styles: list[str] = []
        self._open: list[str] = []
        self._texts: list[str] = []
        self.wrong: list[str] = []
        for piece in page:
            self.feed(piece)
        self.close()
        if self._open:
            self.wrong.append(f"never closed: {self._open}")

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def values(self, tag: str, name: str) -> list[str]:
        return [value for one, key, value in self.attributes if (one, key) == (tag, name)]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag not in TAGS:
            self.wrong.append(f"<{tag}>")
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name not in ATTRIBUTES:
                self.wrong.append(f"<{tag} {name}={value!r}>")
        self.wrong += _leading_out(tag, dict(attrs))
        if tag not in _VOID or tag in ("rect", "path", "polyline"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.wrong.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.styles.append(data)
        else:
            self._texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.wrong.append(f"<!--{data}-->")


def _leading_out(tag: str, attributes: dict[str, str | None]) -> list[str]:
    """Addresses that lead out of the page."""
    href, src = attributes.get("href"), attributes.get("src")
    wrong = []
    if href is not None and not href.startswith("#") and (tag, href) != ("link", "data:,"):
        wrong.append(f"<{tag} href={href!r}>")
    if src is not None and not re.fullmatch(r"data:image/(png|jpeg|gif|webp);base64,[\w+/=]+", src):
        wrong.append(f"<{tag} src={src[:60]!r}>")
    return wrong


def policy_of(read: Read) -> str:
    """The page's Content-Security-Policy."""
    return next(value for value in read.values("meta", "content") if "default-src" in value)


def digest(style: str) -> str:
    """As a policy names a style sheet."""
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
