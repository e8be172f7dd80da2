"""Reads the text of a git configuration exactly as git does, and says where each value stands.

Whatever git takes for a setting must be found here, too: a tool writes the text so that it is not.
So this follows the grammar of git-config(1), "Syntax", and git's own reader, character by
character. Where git stops with an error, this stops as well: git uses none of such a file.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

_SPACE = frozenset(b" \t\n\r")
_KEY = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
_ALPHA = _KEY - frozenset(b"0123456789-")
_ESCAPES = {ord("t"): 9, ord("b"): 8, ord("n"): 10, ord("\\"): 92, ord('"'): 34}
_NEWLINE, _QUOTE, _BACKSLASH = 10, 34, 92
_COMMENT = frozenset(b"#;")
_BOM = b"\xef\xbb\xbf"


class Entry(msgspec.Struct, frozen=True):
    """A setting. section, key: in lower case. subsection: as it is written; None for none. value:
    None for a name alone, which means true. begin, end: its place in the text."""

    section: str
    subsection: str | None
    key: str
    value: str | None
    begin: int
    end: int

    @property
    def name(self) -> str:
        """As git-config(1) names it; without a section, the key alone."""
        if not self.section and self.subsection is None:
            return self.key
        middle = "" if self.subsection is None else f"{self.subsection}."
        return f"{self.section}.{middle}{self.key}"


class _Stop(Exception):
    """git stops here with an error."""


def entries(text: bytes) -> Iterator[Entry]:
    """The settings, in their order, up to the end or to the first error."""
    try:
        yield from _Reader(text).entries()
    except _Stop:
        return


class _Reader:
    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = len(_BOM) if text.startswith(_BOM) else 0
        self._ended = False

    def _next(self) -> int:
        """The next character. \\r\\n is \\n, and the end of the text is one, too."""
        if self._at >= len(self._text):
            self._at, self._ended = len(self._text) + 1, True
            return _NEWLINE
        character = self._text[self._at]
        self._at += 1
        if character == 13 and self._text[self._at : self._at + 1] == b"\n":
            self._at += 1
            return _NEWLINE
        return character

    def entries(self) -> Iterator[Entry]:
        section: tuple[str, str | None] = "", None
        while True:
            begin = self._at
            character = self._next()
            if self._ended:
                return
            if character in _SPACE:
                continue
            if character in _COMMENT:
                while self._next() != _NEWLINE:
                    pass
            elif character == ord("["):
                section = self._section()
            elif character in _ALPHA:
                key, value = self._setting(character)
                end = min(self._at, len(self._text))
                yield Entry(*section, key, value, begin, end)
            else:
                raise _Stop

    def _section(self) -> tuple[str, str | None]:
        name = bytearray()
        while True:
            character = self._next()
            if self._ended:
                raise _Stop
            if character == ord("]"):
                # `[section.sub]` is an old way to write `[section "sub"]`, in lower case.
                section, dot, sub = _text(bytes(name).lower()).partition(".")
                return section, sub if dot else None
            if character in _SPACE:
                return _text(bytes(name).lower()), self._subsection(character)
            if character not in _KEY and character != ord("."):
                raise _Stop
            name.append(character)

    def _subsection(self, character: int) -> str:
        while True:
            if character == _NEWLINE:
                raise _Stop
            character = self._next()
            if character not in _SPACE:
                break
        if character != _QUOTE:
            raise _Stop
        name = bytearray()
        while (character := self._next()) != _QUOTE:
            if character == _BACKSLASH:
                character = self._next()
            if character == _NEWLINE:
                raise _Stop
            name.append(character)
        if self._next() != ord("]"):
            raise _Stop
        return _text(bytes(name))

    def _setting(self, first: int) -> tuple[str, str | None]:
        name = bytearray([first])
        while True:
            character = self._next()
            if self._ended or character not in _KEY:
                break
            name.append(character)
        while character in b" \t":
            character = self._next()
        key = _text(bytes(name).lower())
        if character == _NEWLINE:
            return key, None
        if character != ord("="):
            raise _Stop
        return key, self._value()

    def _value(self) -> str:
        value, quoted, comment, kept = bytearray(), False, False, 0
        while True:
            character = self._next()
            if character == _NEWLINE:
                if quoted:
                    raise _Stop
                # git hands the value on as a string of C, which a NUL byte ends.
                return _text(bytes(value[:kept]).partition(b"\0")[0])
            if comment:
                continue
            if character in _SPACE and not quoted:
                if value:
                    value.append(character)
                continue
            if character in _COMMENT and not quoted:
                comment = True
                continue
            kept = len(value)  # spaces before a quote, or at the end of a line that goes on
            if character == _BACKSLASH:
                character = self._next()
                if character == _NEWLINE:
                    continue
                if character not in _ESCAPES:
                    raise _Stop
                value.append(_ESCAPES[character])
            elif character == _QUOTE:
                quoted = not quoted
                continue
            else:
                value.append(character)
            kept = len(value)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def as_text(entry: Entry) -> bytes:
    """An entry as text of its own, with the head of its section."""
    head = entry.section
    if entry.subsection is not None:
        quoted = entry.subsection.replace("\\", "\\\\").replace('"', '\\"')
        head += f' "{quoted}"'
    line = entry.key
    if entry.value is not None:
        value = entry.value.replace("\\", "\\\\").replace('"', '\\"')
        value = value.replace("\n", "\\n").replace("\t", "\\t").replace("\b", "\\b")
        line += f' = "{value}"'
    return f"[{head}]\n\t{line}\n".encode("utf-8", "surrogateescape")
