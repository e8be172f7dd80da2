"""From the text of a YAML file to a tree of nodes, or to an error that says where and why.

libyaml's parser is about twenty times faster than the one in Python, and a list of turns may be
long. The one in Python decides where libyaml refuses a text, since its messages are better, and
where a text may be nested so deeply that libyaml's recursion overflows the stack.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml
from sandbox_agent_sandbox.put_off import expression

from sandbox_agent.errors import ConfigError

ErrorAt = Callable[..., ConfigError]
"""`error(index, what, hint=...)`: an error at this character of the text."""

TAG = "tag:yaml.org,2002:"

MAX_DEPTH = 64
"""Levels of nesting."""

_SHORT = 64 * 1024
"""Characters that the parser in Python reads in a moment."""


class _Loader(yaml.SafeLoader):
    """SafeLoader whose plain scalars are what they look like: no dates, no base-60 numbers, and
    `0123` stays text, since YAML 1.1 reads 83 and YAML 1.2 reads 123."""


def _resolvers(known: dict[Any, Any]) -> dict[Any, Any]:
    """The implicit resolvers of the library, without those that are replaced below."""
    replaced = ("timestamp", "int", "float", "value")
    return {
        first: [(tag, regexp) for tag, regexp in resolvers if tag.split(":")[-1] not in replaced]
        for first, resolvers in known.items()
    }


_Loader.yaml_implicit_resolvers = _resolvers(yaml.SafeLoader.yaml_implicit_resolvers)
_Loader.add_implicit_resolver(
    TAG + "float",
    expression(
        r"[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?(?:0|[1-9][0-9]*)[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
    ),
    list("-+0123456789."),
)
_Loader.add_implicit_resolver(
    TAG + "int",
    expression(r"[-+]?0b[0-1_]+|[-+]?0o[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+"),
    list("-+0123456789"),
)
# The library matches with `match`, which does not look at the end.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, expression(f"(?:{regexp.pattern})$", regexp.flags)) for tag, regexp in resolvers]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def _quick_loader() -> Any:
    """The same by libyaml; None where the library is built without it."""
    if not getattr(yaml, "__with_libyaml__", False):
        return None
    resolvers = {"yaml_implicit_resolvers": _Loader.yaml_implicit_resolvers}
    return type("_QuickLoader", (yaml.CSafeLoader,), resolvers)


_QuickLoader = _quick_loader()


def compose(text: str, error_at: ErrorAt) -> yaml.Node | None:
    """The root of the document; None if there is none. Raises what `error_at` makes."""
    if _QuickLoader is None or _may_be_deep(text):
        return _compose_slowly(text, error_at)
    loader = _QuickLoader(_with_whole_characters(text))
    try:
        node: yaml.Node | None = loader.get_single_node()
    except (yaml.YAMLError, UnicodeError) as error:
        if len(text) > _SHORT and isinstance(error, yaml.MarkedYAMLError):
            # libyaml's words, since the other parser would take seconds.
            raise _syntax_error(error, text, error_at) from None
        return _compose_slowly(text, error_at)
    finally:
        loader.dispose()
    return node


def _compose_slowly(text: str, error_at: ErrorAt) -> yaml.Node | None:
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        raise _not_allowed(error, text, error_at) from None
    try:
        node: yaml.Node | None = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, error_at) from None
    except yaml.reader.ReaderError as error:
        # Beyond the first chunk the text is checked as it is read.
        raise _not_allowed(error, text, error_at) from None
    except RecursionError:
        raise error_at(0, "is nested too deeply", hint="a task file needs a few levels") from None
    except (ValueError, OverflowError):
        # An escape such as "\UFFFFFFFF" names no character.
        raise error_at(
            0, "an escape in double quotes names no character", hint="write the character itself"
        ) from None
    finally:
        loader.dispose()
    return node


_BRACKET = expression(r"[\[\]{}]")
_MANY_ON_A_LINE = expression(rf"(?:[-?:][ \t]+){{{MAX_DEPTH}}}|^ {{200}}", re.MULTILINE)


def _may_be_deep(text: str) -> bool:
    """Whether a text may be nested more deeply than MAX_DEPTH: brackets within text count too."""
    depth = 0
    for match in _BRACKET.finditer(text):
        depth += 1 if match[0] in "[{" else -1
        if depth > MAX_DEPTH:
            return True
    return _MANY_ON_A_LINE.search(text) is not None


_PAIR = expression(
    r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
)


def _with_whole_characters(text: str) -> str:
    """JSON writes a character beyond U+FFFF as two escapes, RFC 8259. YAML knows no such pairs."""
    if "\\ud" not in text and "\\uD" not in text:
        return text
    import json  # few texts have such an escape

    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text  # Not JSON, so such an escape may stand in single quotes. libyaml refuses it.

    def whole(match: re.Match[str]) -> str:
        high, low = int(match[2], 16), int(match[3], 16)
        return f"{match[1]}\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08X}"

    return _PAIR.sub(whole, text)


def _not_allowed(error: yaml.reader.ReaderError, text: str, error_at: ErrorAt) -> ConfigError:
    return error_at(
        error.position,
        f"the character U+{ord(text[error.position]):04X} is not allowed in YAML",
        hint="remove it",
    )


def _syntax_error(error: yaml.MarkedYAMLError, text: str, error_at: ErrorAt) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or error.context or "not YAML"
    hint = "check the indentation and the quotes around here"
    if mark is None:
        return error_at(0, f"malformed YAML: {problem}", hint=hint)
    line_text = text.split("\n")[mark.line] if mark.line < text.count("\n") + 1 else ""
    if problem == "but found another document":
        problem, hint = "a second document starts here", "remove it: a file has one document"
    elif "\t" in line_text[: mark.column + 1]:
        problem, hint = "a tab where only spaces are allowed", "indent with spaces"
    elif problem == "mapping values are not allowed here":
        hint = 'put text that contains ": " in quotes, or fix the indentation'
    elif "found undefined alias" in problem:
        hint = "define it with & further up, or put the text in quotes"
    elif problem.startswith("found character") and "cannot start any token" in problem:
        hint = "put text that starts with this character in quotes"
    elif problem.startswith("expected <block end>"):
        problem = "this line does not fit under the one above it"
    elif problem.startswith("found unexpected end of stream"):
        hint = "close the quote"
    elif "${" in line_text:
        hint = "put text with ${name} in quotes"
    elif " #" in line_text:
        hint = 'put text that contains " #" in quotes: the rest of the line is a comment'
    return error_at(None, f"malformed YAML: {problem}", hint=hint, mark=mark)
