"""Globs, as regular expressions for paths. Syntax that is not understood is refused. Otherwise a
search would say "no file matches" although files do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import pairwise

from sandbox_agent_sandbox.inside.worker.call_facts import expand_home
from sandbox_agent_sandbox.inside.worker.tool_result import ToolError

MAX_ALTERNATIVES = 1000
"""Patterns that the braces of one glob may stand for."""

_OTHER_SYNTAX = {
    "@(": "write {a,b} for alternatives",
    "+(": "write {a,b} for alternatives",
    "!(": "it cannot say what is left out; find more, and leave out yourself",
}
"""Of ksh and bash (extglob)."""


def glob_matcher(pattern: str, top: str = ".") -> re.Pattern[str]:
    """A glob as a regular expression for `fullmatch` on a path below the folder `top`.

    `*` and `?` stay within a name, `**` crosses folders, `[ab]` and `[!a]` are one character,
    `{a,b}` is one of several texts, and a backslash takes the next character as it is. A pattern
    without a slash matches a file's name in every folder, one that ends in a slash everything
    below such a folder. An absolute pattern has to begin with `top`.

    Raises ToolError for an empty pattern, and for what is none of this.
    """
    patterns = [one for one in _expand(pattern, pattern) if one] or [""]
    translated = [_translate(_below(expand_home(one), top, pattern), pattern) for one in patterns]
    try:
        return re.compile("|".join(translated), re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        raise ToolError(f"the glob {pattern!r} cannot be used: {error}") from error


def alternatives_hint(pattern: str) -> str:
    """A hint for a pattern that matches nothing, and may be several in a syntax that is not a
    glob's."""
    several = re.search(r"[,;|\s]", re.sub(r"\{[^}]*\}", "", pattern))
    return "; alternatives are written {a,b}" if several else ""


def _below(pattern: str, top: str, shown: str) -> str:
    """The pattern relative to `top`."""
    absolute = pattern.startswith("/")
    if absolute:
        folder = os.path.abspath(top)
        rest = pattern.removeprefix(folder.rstrip("/") + "/")
        if rest == pattern:
            raise ToolError(
                f"the glob {shown!r} is absolute and does not begin with {folder!r}; name the "
                "folder in `path`, and what to match below it in the glob"
            )
        pattern = rest.lstrip("/") or "**"
    parts = [part for part in re.split(r"/+", pattern) if part != "."]
    if ".." in parts:
        raise ToolError(
            f"the glob {shown!r} has `..`, which no path below a folder has; name the folder in "
            "`path`"
        )
    pattern = "/".join(parts)
    if not pattern:
        raise ToolError("the glob is empty; give one such as `*.py` or `src/**/test_*`")
    if pattern.startswith("!"):
        raise ToolError(
            f"the glob {shown!r} begins with `!`, which cannot say what is left out; write `\\!` "
            "for the character"
        )
    if "/" not in pattern.rstrip("/") and not absolute:
        pattern = f"**/{pattern}"
    return f"{pattern}**" if pattern.endswith("/") else pattern


def _expand(pattern: str, shown: str) -> list[str]:
    """The patterns that the braces stand for: `a{b,c}` is `ab` and `ac`. Braces may be nested."""
    done: list[str] = []
    waiting = [pattern]
    while waiting:
        one = waiting.pop()
        braces = _first_braces(one, shown)
        if braces is None:
            done.append(one)
        else:
            start, commas, end = braces
            edges = [start, *commas, end]
            texts = [one[a + 1 : b] for a, b in pairwise(edges)]
            waiting += [one[:start] + text + one[end + 1 :] for text in reversed(texts)]
        if len(done) + len(waiting) > MAX_ALTERNATIVES:
            raise ToolError(
                f"the braces of the glob {shown!r} stand for more than {MAX_ALTERNATIVES} patterns"
            )
    return done


def _first_braces(pattern: str, shown: str) -> tuple[int, list[int], int] | None:
    """Where the first outer pair of braces opens, has its commas, and closes; None for no pair."""
    start, depth = -1, 0
    commas: list[int] = []
    for at, char in _plain_characters(pattern):
        if char == "{":
            depth += 1
            if depth == 1:
                start = at
        elif char == "," and depth == 1:
            commas.append(at)
        elif char == "}" and depth:
            depth -= 1
            if depth == 0:
                if not commas:
                    raise ToolError(
                        f"{pattern[start : at + 1]!r} in the glob {shown!r} has no comma: write "
                        "{a,b} for alternatives, and a backslash before a brace that is part of "
                        "a name"
                    )
                return start, commas, at
        elif char == "}":
            depth = -1
            break
    if depth:
        raise ToolError(
            f"a brace in the glob {shown!r} has no partner; put a backslash before a brace that is "
            "part of a name"
        )
    return None


def _plain_characters(pattern: str) -> Iterator[tuple[int, str]]:
    """The characters with their places, those in brackets or behind a backslash left out."""
    at = 0
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 2
            continue
        end = _class_end(pattern, at)
        if end < 0:
            yield at, pattern[at]
        at = max(at, end) + 1


def _class_end(pattern: str, at: int) -> int:
    """Where the character class that begins here ends; -1 if none does. A `]` that comes first
    belongs to it."""
    if pattern[at] != "[":
        return -1
    first = at + 1 + pattern.startswith(("!", "^"), at + 1)
    end = pattern.find("]", first + 1)
    return -1 if "/" in pattern[first:end] else end


def _translate(pattern: str, shown: str) -> str:
    out = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if (syntax := pattern[at : at + 2]) in _OTHER_SYNTAX:
            raise ToolError(
                f"the glob {shown!r} has `{syntax}`, which is not understood: "
                f"{_OTHER_SYNTAX[syntax]}; for the character itself put a backslash before it"
            )
        end = _class_end(pattern, at)
        if pattern.startswith("**/", at) and (at == 0 or pattern[at - 1] == "/"):
            out.append("(?:[^/]+/)*")
            at += 3
        elif pattern.startswith("**", at):
            out.append(".*")
            at += 2
        elif char == "\\" and at + 1 < len(pattern):
            out.append(re.escape(pattern[at + 1]))
            at += 2
        elif end > 0:
            out.append(_class(pattern[at + 1 : end], shown))
            at = end + 1
        else:
            out.append({"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char)))
            at += 1
    return "".join(out)


def _class(inside: str, shown: str) -> str:
    if re.search(r"\[[:.=]", inside):
        raise ToolError(
            f"the glob {shown!r} has a named class such as [:digit:], which is not understood; "
            "write a range such as [0-9]"
        )
    negated = "^" if inside[0] in "!^" else ""
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside[len(negated) :])
    return f"(?!/)[{negated}{escaped}]"
