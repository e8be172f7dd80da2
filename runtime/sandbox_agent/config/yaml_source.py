"""Safe YAML with the place of every value, so that an error can say `task.yaml:12:5`.

Plain data only: mappings with text keys, lists, text, numbers, true/false and null. YAML 1.1 turns
some texts into other values without a word: dates, `1:30` into ninety, objects by tag. Here they
stay text or are refused. Anchors, aliases and merge keys (`<<`) work, up to a limit. What YAML
reads in another way than most people do becomes a warning: the comment that cuts off the rest of a
text, and `no` that is false.
"""

from __future__ import annotations

import contextlib
import gc
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from sandbox_agent_sandbox.policy.fields.explain import dotted
from sandbox_agent_sandbox.put_off import expression

from sandbox_agent.config.yaml_nodes import MAX_DEPTH, TAG, compose
from sandbox_agent.embedding.warn import notify
from sandbox_agent.errors import ConfigError

Key = str | int
PathTuple = tuple[Key, ...]

MAX_BYTES = 1024 * 1024
"""Of a task file or a policy."""

MAX_LIST_BYTES = 4 * 1024 * 1024
"""Of a list of turns, which a program may have written."""

MAX_VALUES = 20_000
"""Values of a file with aliases expanded, or twice its own if that is more: a few lines of aliases
can stand for billions of values."""


@dataclass(frozen=True, slots=True)
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
    doubts: list[ConfigError] = field(default_factory=list)
    """What YAML has read in another way than it may be meant."""
    files: list[str] = field(default_factory=list)
    """The files that were merged, the nearest one last."""

    def layer(self, path: PathTuple) -> int:
        """How near the value at `path` is: that of a file, of a nearer one, of the command line."""
        file = self.position(path).file
        return self.files.index(file) if file in self.files else len(self.files)

    def nearest(self, path: PathTuple) -> PathTuple:
        """The part of the value at `path` that the nearest layer gave; `path` if all are alike."""
        parts = [at for at in self.places if at[: len(path)] == path]
        return max([path, *parts], key=self.layer)

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


def load(path: Path | str, max_bytes: int = MAX_BYTES) -> tuple[Any, SourceMap]:
    """The data of a YAML file and the places of its values. Warns of what may be meant otherwise.

    Raises ConfigError naming file, line, column and hint, for a file that cannot be read, is
    empty, is not UTF-8, is not YAML, or is more than plain data in one document.
    """
    shown = str(path)
    try:
        with open(path, "rb") as file:
            raw = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise ConfigError("there is no such file", file=shown, hint="check the path") from None
    except IsADirectoryError:
        raise ConfigError("is a folder, not a file", file=shown, hint="name a file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"cannot be read: {reason}", file=shown, hint="name a file that you may read"
        ) from None
    if len(raw) > max_bytes:
        task = max_bytes == MAX_BYTES
        raise ConfigError(
            f"is larger than {max_bytes // 1024} KiB",
            file=shown,
            hint="a task file is short; keep long text in a prompt_file" if task else "shorten it",
        )
    data, source = loads(raw, shown, Path(path).absolute().parent)
    for doubt in source.doubts:
        notify(str(doubt))
    return data, source


def loads(raw: bytes, name: str, folder: Path) -> tuple[Any, SourceMap]:
    """Like `load`, for the bytes of a file, without the warnings: `SourceMap.doubts` has them.

    name: of the file, for messages."""
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

    def error_at(index: int | None, what: str, *, hint: str, mark: Any = None) -> ConfigError:
        if index is None:
            return Position(name, mark.line + 1, mark.column + 1, folder).error(what, hint=hint)
        before = text[:index]
        line, column = before.count("\n") + 1, index - before.rfind("\n")
        return Position(name, line, column, folder).error(what, hint=hint)

    source = SourceMap(start)
    with _without_collection():
        node = compose(text, error_at)
        if node is None:
            raise ConfigError(
                "is empty", file=name, hint="see `sandbox-agent init demo` for a start"
            )
        return _Builder(source, text).build(node, ()), source


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """No search for cycles meanwhile: it would look at a long file's nodes again and again, which
    takes twice as long as to read it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_FREE_TEXT = frozenset({"prompt", "instructions", "say", "final"})
"""Fields with whole sentences: nobody comments on one behind its end, without quotes."""

_COMMENT = expression(r"([ \t]+)#(.?)[^\n\r]*")
_WORDS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_SURROGATE = expression("[\ud800-\udfff]")


class _Builder:
    """Makes plain data of a node tree and notes where each value stands."""

    def __init__(self, source: SourceMap, text: str) -> None:
        self._source = source
        self._text = text
        self._has_comments = "#" in text
        self._values = 0
        self._nodes: set[int] = set()
        self._open: set[int] = set()  # nodes being built: an alias to one of them never ends
        self._scalars = yaml.constructor.SafeConstructor()

    def build(self, node: yaml.Node, path: PathTuple) -> Any:
        place = self._place(node)
        self._source.places.setdefault(path, place)
        is_alias = id(node) in self._nodes
        self._values += 1
        self._nodes.add(id(node))
        # As many values as nodes where there are no aliases.
        if self._values > max(MAX_VALUES, 2 * len(self._nodes)):
            raise place.error(
                f"stands for more than {MAX_VALUES} values, with aliases expanded",
                hint="use fewer aliases",
            )
        if len(path) > MAX_DEPTH:
            raise place.error(f"is nested deeper than {MAX_DEPTH} levels", hint="nest less")
        if isinstance(node, yaml.ScalarNode):
            value = self._scalar(node, place)
            if not node.style and not is_alias:
                self._doubt(node, value, path, place)
            return value
        if node.tag not in (TAG + "map", TAG + "seq"):
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
            if key_node.tag == TAG + "merge":
                for merged in self._merged(value_node, path):
                    for key, value in merged.items():
                        data.setdefault(key, value)
        for key_node, value_node in node.value:
            if key_node.tag == TAG + "merge":
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
        kind = node.tag.removeprefix(TAG)
        if kind in ("str", "merge", "value"):
            return self._whole_text(node.value, place)
        if kind not in ("int", "float", "bool", "null"):
            raise self._bad_tag(node, place)
        if kind == "int":
            node = yaml.ScalarNode(node.tag, re.sub("^([-+]?)0o", r"\g<1>0", node.value))
        try:
            value = self._scalars.construct_object(node)
            if isinstance(value, int) and not -(2**63) <= value < 2**64:
                raise OverflowError
            if isinstance(value, float) and math.isinf(value) and "inf" not in node.value.lower():
                raise OverflowError
        except (ValueError, KeyError, OverflowError, yaml.YAMLError):
            shown = node.value if len(node.value) <= 40 else node.value[:40] + "..."
            raise place.error(
                f"{shown!r} cannot be read as {kind}", hint="put it in quotes if it is text"
            ) from None
        return value

    def _whole_text(self, text: str, place: Position) -> str:
        """The text with pairs of surrogates joined: JSON writes an emoji as two escapes."""
        if not _SURROGATE.search(text):
            return text
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise place.error(
                "an escape stands for half of a character", hint="write the character itself"
            ) from None

    def _doubt(self, node: yaml.ScalarNode, value: Any, path: PathTuple, place: Position) -> None:
        """Notes a value without quotes that may be meant otherwise."""
        if isinstance(value, bool) and (meant := _WORDS.get(node.value.lower())):
            self._note(
                place, path, f"{node.value} is read as {meant}", f'write {meant}, or "{node.value}"'
            )
        if not self._has_comments or not (value is None or isinstance(value, str)):
            return
        found = _COMMENT.match(self._text, node.end_mark.index)
        if found is None:
            return
        free = next((key for key in reversed(path) if isinstance(key, str)), "") in _FREE_TEXT
        near = found[1] == " " and " " in (value or "")
        if free or near or found[2] not in ("", " ", "\t", "#"):
            shown = found[0] if len(found[0]) <= 60 else found[0][:60] + "..."
            self._note(
                place,
                path,
                f"the text ends before {shown!r}: ` #` begins a comment",
                "put the text in quotes, or the comment on a line of its own",
            )

    def _note(self, place: Position, path: PathTuple, what: str, hint: str) -> None:
        self._source.doubts.append(place.error(what, field=dotted(path) or None, hint=hint))

    def _bad_tag(self, node: yaml.Node, place: Position) -> ConfigError:
        tag = "!!" + node.tag.removeprefix(TAG) if node.tag.startswith(TAG) else node.tag
        return place.error(f"the tag {tag} is not allowed: plain data only", hint="remove the tag")

    def _place(self, node: yaml.Node) -> Position:
        mark, start = node.start_mark, self._source.start
        if mark is None:
            return start
        return Position(start.file, mark.line + 1, mark.column + 1, start.folder)
