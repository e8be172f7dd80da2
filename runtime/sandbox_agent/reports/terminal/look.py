"""How the view looks: width, signs, colours. Turns lines of rich into bytes for a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import StringIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from sandbox_agent.reports.escape import escape_text

Part = tuple[str, str]
"""A text and its style."""

_MASKED = 4096
"""Characters of a line in which secrets are looked for; no terminal shows more of it."""
_LEAST = 10
"""Columns that the middle of a line has at least. For that, parts of its end are left out."""


@dataclass(frozen=True)
class Signs:
    """The signs in front of lines, and what stands between and for parts of them."""

    going: str = "•"
    good: str = "✓"
    bad: str = "✗"
    stopped: str = "■"
    bar: str = "│"
    between: str = " · "
    cut: str = "…"


UNICODE = Signs()
ASCII = Signs("*", "+", "x", "#", "|", " - ", "...")


def _as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True)
class Look:
    """columns: of the terminal. colour: whether styles are used. ascii: no other characters. mask:
    replaces secrets."""

    columns: int = 80
    colour: bool = True
    ascii: bool = False
    mask: Callable[[str], str] = _as_it_is

    @property
    def signs(self) -> Signs:
        return ASCII if self.ascii else UNICODE

    @property
    def width(self) -> int:
        """Of a line. A full line would leave some terminals in between two lines."""
        return max(1, self.columns - 1)

    def clean(self, text: str) -> str:
        """`text` as it may stand in a line: nothing in it moves the cursor or is wider than it is
        counted."""
        text = escape_text(text).expandtabs(4).replace("\n", " ")
        if text.isascii():
            return text
        if self.ascii:
            return text.encode("ascii", "backslashreplace").decode()
        return "".join(c for c in text if not _joins(c))

    def fit(self, text: str, width: int) -> str:
        """`text`, cleaned, in at most `width` columns."""
        text = self.mask(text[:_MASKED])
        shown = self.clean(text[: 4 * width + 1])
        if cell_len(shown) <= width and len(text) <= 4 * width:
            return shown
        cut = self.signs.cut
        if width <= len(cut):
            return cut[: max(0, width)]
        return set_cell_size(shown, width - len(cut)).rstrip() + cut

    def line(self, begin: Iterable[Part], middle: Part, end: Iterable[Part] = ()) -> Text:
        """One line. The middle is cut to fit; for a narrow one, the last parts are left out."""
        first, last = list(begin), list(end)
        taken = sum(cell_len(text) for text, _ in first)
        while last and self.width - taken - _total(last) < min(_LEAST, cell_len(middle[0])):
            last.pop()
        room = self.width - taken - _total(last)
        made = Text(no_wrap=True, end="")
        for text, style in [*first, (self.fit(middle[0], room), middle[1]), *last]:
            made.append(text, style)
        made.truncate(self.width, overflow="crop")
        return made

    def wrapped(self, text: str, style: str, indent: str, most: int) -> list[Text]:
        """`text` in lines of words, at most `most`; a last line says how many are left out."""
        width = max(1, self.width - cell_len(indent))
        console = _console(self)
        lines: list[Text] = []
        for line in text.split("\n", most + 1)[: most + 1]:
            kept = self.clean(self.mask(line[: 4 * width * (most + 1)].rstrip("\r")))
            lines += Text(kept, style).wrap(console, width, overflow="fold") or [Text("")]
            if len(lines) > most:
                lines[most:] = [Text(self.fit(f"{self.signs.cut} there is more", width), "dim")]
                break
        made = [Text.assemble(indent, line, no_wrap=True, end="") for line in lines]
        for one in made:
            one.rstrip()
            one.truncate(self.width, overflow="crop")
        return made


def _total(parts: Iterable[Part]) -> int:
    return sum(cell_len(text) for text, _ in parts)


def _joins(character: str) -> bool:
    """Whether terminals disagree on the width of what it is part of: emoji that are joined from
    several, and variants."""
    return unicodedata.category(character) in ("Cf", "Me") or "\ufe00" <= character <= "\ufe0f"


_EMPTY: Mapping[str, str] = {}


def _console(look: Look) -> Console:
    return Console(
        file=StringIO(),
        force_terminal=True,
        color_system="standard" if look.colour else None,
        no_color=not look.colour,
        width=look.columns,
        height=1000,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
        _environ=_EMPTY,
    )


class Painter:
    """Turns lines into what a terminal shows. Keeps rich's console between frames."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self._console = _console(look)

    def paint(self, line: Text) -> str:
        """The line, without its end."""
        with self._console.capture() as captured:
            self._console.print(line, end="", no_wrap=True, overflow="ignore", crop=False)
        return captured.get()
