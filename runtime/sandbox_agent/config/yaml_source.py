"""Safe YAML with the place of every value, so that an error can say `task.yaml:12:5`.

Plain data only: mappings with text keys, lists, text, numbers, true/false and null. YAML 1.1 turns
some texts into other values without a word: dates, `1:30` into ninety, objects by tag. Here they
stay text or are refused. Anchors, aliases and merge keys (`<<`) work, up to a limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from sandbox_agent_sandbox.policy.explain import dotted

from sandbox_agent.errors import ConfigError

Key = str | int
PathTuple = tuple[Key, ...]

MAX_BYTES = 1024 * 1024
MAX_VALUES = 20_000
"""Values of one file, with aliases expanded: a few lines of aliases can stand for billions."""
MAX_DEPTH = 64

_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Position:
    """Where a value was written. line and column count from 1; folder is where its paths start.

    file: "" for a value of a Python program.
    """

    file: str
    line: int | None
    column: int | None
    folder: Path

    def error(self, what: str, *, field: str | None = None, hint: str | None = None) -> ConfigError:
        return ConfigError(
            what, file=self.file or None, line=self.line, column=self.column, field=field, hint=hint
        )


@dataclass
class SourceMap:
    """Places of the values of a document, by their path: `("sandbox", "read", 0)`."""

    start: Position
    places: dict[PathTuple, Position] = field(default_factory=dict)

    @classmethod
    def of_program(cls) -> SourceMap:
        """For values of a Python program: they are in no file, and paths start at the current
        folder."""
        return cls(Position("", None, None, Path()))

    def position(self, path: PathTuple) -> Position:
        """The place of the value, or of the nearest value around it that has one."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return self.start

    def where(self, path: PathTuple) -> str:
        """`file:line` of the value at `path`."""
        place = self.position(path)
        return f"{place.file}:{place.line}" if place.line else place.file

    def error(self, path: PathTuple, what: str, hint: str | None = None) -> ConfigError:
        """A ConfigError about the value at `path`."""
        return self.position(path).error(what, field=dotted(path) or None, hint=hint)


def load(path: Path | str) -> tuple[Any, SourceMap]:
    """The data of a YAML file and the places of its values.

    Raises ConfigError naming file, line, column and hint, for a file that cannot be read, is
    empty, is not UTF-8, is not YAML, or is more than plain data in one document.
    """
    shown = str(path)
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError("there is no such file", file=shown, hint="check the path") from None
    except IsADirectoryError:
        raise ConfigError("is a folder, not a file", file=shown, hint="name a file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot be read: {reason}", file=shown) from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(
            f"is larger than {MAX_BYTES // 1024} KiB",
            file=shown,
            hint="a task file is short; keep long text in a prompt_file",
        )
    return loads(raw, shown, Path(path).absolute().parent)


def loads(raw: bytes, name: str, folder: Path) -> tuple[Any, SourceMap]:
    """Like `load`, for the bytes of a file. name: of the file, for messages."""
    start = Position(name, 1, 1, folder)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line = before.count(b"\n") + 1
        column = len(before) - before.rfind(b"\n")
        raise Position(name, line, column, folder).error(
            f"byte 0x{raw[error.start]:02x} is not UTF-8", hint="save the file as UTF-8"
        ) from None
    node = _compose(text, start)
    if node is None:
        raise ConfigError("is empty", file=name, hint="see `sandbox-agent init demo` for a start")
    source = SourceMap(start)
    return _Builder(source).build(node, ()), source


class _Loader(yaml.SafeLoader):
    """SafeLoader without dates, merge-by-constructor and base-60 numbers."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag.split(":")[-1] not in
            ("timestamp", "int", "float")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}  # fmt: skip
_Loader.add_implicit_resolver(
    _TAG + "float",
    re.compile(
        r"[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
    ),
    list("-+0123456789."),
)
_Loader.add_implicit_resolver(
    _TAG + "int",
    re.compile(r"[-+]?0b[0-1_]+|[-+]?0o?[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+"),
    list("-+0123456789"),
)
# The library matches with `match`, which does not look at the end.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, re.compile(f"(?:{regexp.pattern})$", regexp.flags)) for tag, regexp in resolvers]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


def _compose(text: str, start: Position) -> yaml.Node | None:
    def at(index: int) -> Position:
        before = text[:index]
        return Position(
            start.file, before.count("\n") + 1, index - before.rfind("\n"), start.folder
        )

    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        raise at(error.position).error(
            f"the character U+{ord(text[error.position]):04X} is not allowed in YAML",
            hint="remove it",
        ) from None
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, start) from None
    except yaml.reader.ReaderError as error:
        # Beyond the first chunk the text is checked as it is read.
        raise at(error.position).error(
            f"the character U+{ord(text[error.position]):04X} is not allowed in YAML",
            hint="remove it",
        ) from None
    except RecursionError:
        raise start.error("is nested too deeply", hint="a task file needs a few levels") from None
    finally:
        loader.dispose()
    return node


def _syntax_error(error: yaml.MarkedYAMLError, text: str, start: Position) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or error.context or "not YAML"
    hint = "check the indentation and the quotes around here"
    if mark is None:
        return start.error(f"malformed YAML: {problem}", hint=hint)
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
    place = Position(start.file, mark.line + 1, mark.column + 1, start.folder)
    return place.error(f"malformed YAML: {problem}", hint=hint)


class _Builder:
    """Makes plain data of a node tree and notes where each value stands."""

    def __init__(self, source: SourceMap) -> None:
        self._source = source
        self._left = MAX_VALUES
        self._open: set[int] = set()  # nodes being built: an alias to one of them never ends
        self._scalars = yaml.constructor.SafeConstructor()

    def build(self, node: yaml.Node, path: PathTuple) -> Any:
        place = self._place(node)
        self._source.places.setdefault(path, place)
        self._left -= 1
        if self._left < 0:
            raise place.error(
                f"stands for more than {MAX_VALUES} values, with aliases expanded",
                hint="use fewer aliases",
            )
        if len(path) > MAX_DEPTH:
            raise place.error(f"is nested deeper than {MAX_DEPTH} levels", hint="nest less")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        if node.tag not in (_TAG + "map", _TAG + "seq"):
            raise self._bad_tag(node, place)
        if id(node) in self._open:
            raise place.error("contains itself by an alias", hint="remove the alias")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.build(item, (*path, i)) for i, item in enumerate(node.value)]
            return self._mapping(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.Node, path: PathTuple) -> dict[str, Any]:
        data: dict[str, Any] = {}
        seen: dict[str, Position] = {}
        # Merged keys first, so that the mapping's own win, and their places as well.
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                for merged in self._merged(value_node, path):
                    for key, value in merged.items():
                        data.setdefault(key, value)
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                continue
            key = self._key(key_node)
            place = self._place(key_node)
            if key in seen:
                raise place.error(
                    f"the key {key!r} is there twice, the first time in line {seen[key].line}",
                    field=dotted((*path, key)),
                    hint="remove one of them",
                )
            seen[key] = place
            self._source.places[(*path, key)] = place
            data[key] = self.build(value_node, (*path, key))
        return data

    def _merged(self, node: yaml.Node, path: PathTuple) -> Iterator[Mapping[str, Any]]:
        for one in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            value = self.build(one, path)
            if not isinstance(value, dict):
                raise self._place(one).error(
                    "`<<` merges mappings only", hint="name the anchor of a mapping"
                )
            yield value

    def _key(self, node: yaml.Node) -> str:
        place = self._place(node)
        if not isinstance(node, yaml.ScalarNode):
            raise place.error("a key must be text", hint="write `name: value`")
        key = self._scalar(node, place)
        if not isinstance(key, str):
            raise place.error(
                f"the key {node.value} is not text here", hint=f'put it in quotes: "{node.value}"'
            )
        return key

    def _scalar(self, node: yaml.ScalarNode, place: Position) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if kind == "str":
            return node.value
        if kind not in ("int", "float", "bool", "null"):
            raise self._bad_tag(node, place)
        if kind == "int":
            node = yaml.ScalarNode(node.tag, re.sub("^([-+]?)0o", r"\g<1>0", node.value))
        try:
            return self._scalars.construct_object(node)
        except (ValueError, KeyError, OverflowError, yaml.YAMLError):
            shown = node.value if len(node.value) <= 40 else node.value[:40] + "..."
            raise place.error(
                f"{shown!r} cannot be read as {kind}", hint="put it in quotes if it is text"
            ) from None

    def _bad_tag(self, node: yaml.Node, place: Position) -> ConfigError:
        tag = "!!" + node.tag.removeprefix(_TAG) if node.tag.startswith(_TAG) else node.tag
        return place.error(f"the tag {tag} is not allowed: plain data only", hint="remove the tag")

    def _place(self, node: yaml.Node) -> Position:
        mark, start = node.start_mark, self._source.start
        if mark is None:
            return start
        return Position(start.file, mark.line + 1, mark.column + 1, start.folder)
