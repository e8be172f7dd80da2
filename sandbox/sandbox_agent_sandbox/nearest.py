"""The guess for a mistyped word. difflib is imported only then: no command that is right pays."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 100
"""Characters of a word that are compared: what is longer is no slip of a name."""


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word that is most similar to `word`, or None if none is similar.

    cutoff: how similar, from 0 to 1, as for difflib.get_close_matches. Case counts for nothing.
    """
    from difflib import get_close_matches

    folded = {name.casefold(): name for name in sorted(known, reverse=True)}
    found = get_close_matches(word[:_LONGEST].casefold(), list(folded), n=1, cutoff=cutoff)
    return folded[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The hint for a mistyped word, or None if no known word is similar."""
    near = nearest(word, known)
    return None if near is None else f"did you mean {near}?"
