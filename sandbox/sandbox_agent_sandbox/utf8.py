"""What our processes can tell each other: text in UTF-8. Linux allows any bytes in file names and
in the environment; Python shows those that are not UTF-8 as lone surrogates."""

from __future__ import annotations


def is_utf8(text: str) -> bool:
    """Whether all of `text` was UTF-8 where it came from."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def without_surrogates(text: str) -> str:
    """The text with each lone surrogate, which UTF-8 cannot hold, replaced by a question mark."""
    return text.encode("utf-8", "replace").decode()
