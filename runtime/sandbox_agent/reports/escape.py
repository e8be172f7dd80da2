"""Escapes control characters. Text of models and tools is hostile: on a terminal it could set the
clipboard, overwrite earlier output, or ask the terminal for a reply that a shell then reads."""

from __future__ import annotations

import codecs
import re
from functools import cache

# C0 without tab and newline, DEL, C1; marks that reorder text (Unicode TR 36, 2.10); line
# separators that some programs treat as a newline.
_CONTROL = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c"
_UNSAFE = f"[{_CONTROL}\ud800-\udfff]"
_COLOUR = r"\x1b\[[0-9;:]{0,32}m"
_COLOUR_PREFIX = r"\x1b(?:\[[0-9;:]{0,32})?\Z"
_PASSED = "\r\b"


@cache
def _compiled(expression: str) -> re.Pattern[str]:
    """One of the expressions above. A command that shows nothing needs none of them."""
    return re.compile(expression)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def escape_text(text: str) -> str:
    """`text` with control characters escaped, except tab and newline: ESC as `\\x1b`."""
    return _compiled(_UNSAFE).sub(_escaped, text)


def one_line(text: str, width: int = 200) -> str:
    """The beginning of `text` on one line, escaped and cut to `width` characters."""
    flat = escape_text(" ".join(text[: 4 * width].split()))
    return flat if len(flat) <= width and len(text) <= 4 * width else flat[:width] + "..."


LAST_LINES = 20
"""How much of the output of what failed is shown. The end says why."""


def last_lines(text: str, count: int = LAST_LINES, width: int = 200) -> list[str]:
    """The last lines of `text`, each escaped and cut to `width` characters. Costs little, however
    long the text is."""
    end = text[-count * 4 * width :].rstrip("\n")
    lines = end.split("\n")[-count:] if end else []
    # Of a line that carriage returns overwrite, such as a progress bar, the last state.
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
    shown = (escape_text(line[: width + 1]) for line in lines)
    return [line if len(line) <= width else f"{line[:width]}..." for line in shown]


class TerminalFilter:
    """Filters a command's output for a terminal, piece by piece. Colours, carriage return and
    backspace pass; every other control character is escaped."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._held_back = ""

    def feed(self, data: bytes) -> bytes:
        """The next piece, filtered. An incomplete colour is held back until the next piece."""
        text = self._held_back + self._decoder.decode(data)
        self._held_back = ""
        if begun := _compiled(_COLOUR_PREFIX).search(text):
            self._held_back = begun[0]
            text = text[: begun.start()]
        parts: list[str] = []
        at = 0
        for colour in _compiled(_COLOUR).finditer(text):
            parts += self._plain(text[at : colour.start()]), colour[0]
            at = colour.end()
        parts.append(self._plain(text[at:]))
        return "".join(parts).encode("utf-8", "backslashreplace")

    def end(self) -> bytes:
        """What was held back of a colour or of a character that has no end."""
        text = self._held_back + self._decoder.decode(b"", final=True)
        self._held_back = ""
        return self._plain(text).encode("utf-8", "backslashreplace")

    @staticmethod
    def _plain(text: str) -> str:
        return _compiled(_UNSAFE).sub(lambda m: m[0] if m[0] in _PASSED else _escaped(m), text)
