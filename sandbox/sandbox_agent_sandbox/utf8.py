"""Text that messages can carry: UTF-8. Linux allows any bytes in file names and in the environment;
Python shows bytes that are not UTF-8 as lone surrogates."""

from __future__ import annotations


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
