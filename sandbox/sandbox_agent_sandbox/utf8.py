"""Text that messages can carry: UTF-8. Linux allows any bytes in file names and in the environment;
Python shows bytes that are not UTF-8 as lone surrogates."""

from __future__ import annotations

import os


def is_utf8(text: str) -> bool:
    """Whether `text`, where it came from, was valid UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def without_surrogates(text: str) -> str:
    """The text with each lone surrogate, which UTF-8 cannot hold, replaced by a question mark."""
    return text.encode("utf-8", "replace").decode()


def utf8_size(text: str) -> int:
    """The size of `text` in bytes of UTF-8. A lone surrogate counts as three."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def argument_text(word: str) -> str:
    """An argument of the command line, read as UTF-8 whatever the locale says: with PYTHONUTF8=0,
    LC_ALL=C means ASCII. Raises UnicodeError if its bytes are not UTF-8."""
    return os.fsencode(word).decode("utf-8")
