"""Text of models and tools is hostile: on a terminal it could set the clipboard, rewrite what
was shown, or make the terminal type commands by asking it for an answer."""

from __future__ import annotations

import codecs
import re

# C0 without tab and newline, DEL, C1; the marks that reorder text (Unicode TR 36, 2.10); line
# separators that some readers take for a newline.
_CONTROL = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c"
_UNSAFE = re.compile(f"[{_CONTROL}\ud800-\udfff]")
_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,32}m")
_COLOUR_BEGUN = re.compile(r"\x1b(?:\[[0-9;:]{0,32})?\Z")
_PASSED = "\r\b"


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def escape_text(text: str) -> str:
    """`text` with control characters other than tab and newline written out: ESC as `\\x1b`."""
    return _UNSAFE.sub(_escaped, text)


def one_line(text: str, width: int = 200) -> str:
    """The first lines of `text` as one line, escaped and cut to `width` characters."""
    flat = escape_text(" ".join(text[: 4 * width].split()))
    return flat if len(flat) <= width and len(text) <= 4 * width else flat[:width] + "..."


class TerminalFilter:
    """A command's output for a terminal, piece by piece: colours, carriage return and backspace
    pass, every other control character is written out."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._begun = ""

    def feed(self, data: bytes) -> bytes:
        """The next piece, made safe. A colour that is cut in two is held back until it is whole."""
        text = self._begun + self._decoder.decode(data)
        self._begun = ""
        if begun := _COLOUR_BEGUN.search(text):
            self._begun = begun[0]
            text = text[: begun.start()]
        parts: list[str] = []
        at = 0
        for colour in _COLOUR.finditer(text):
            parts += self._plain(text[at : colour.start()]), colour[0]
            at = colour.end()
        parts.append(self._plain(text[at:]))
        return "".join(parts).encode("utf-8", "backslashreplace")

    @staticmethod
    def _plain(text: str) -> str:
        return _UNSAFE.sub(lambda m: m[0] if m[0] in _PASSED else _escaped(m), text)
