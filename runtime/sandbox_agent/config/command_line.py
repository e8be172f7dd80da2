"""What `--set` and flags change in the data of a task.

A text in place of a model's mapping is its name. A mapping replaces the fields that it names. What
the command line says twice, in two ways, is refused: one of the two could have no effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sandbox_agent_sandbox.policy.fields.explain import dotted

from sandbox_agent.config.yaml_source import PathTuple, Position, SourceMap, loads
from sandbox_agent.errors import ConfigError

Given = tuple[Any, str]
"""A value, and the flag or the variable that gave it."""

_PROMPTS = ("prompt", "prompt_file")
_EXAMPLE = "write --set sandbox.network=host"


class CommandLine:
    """Changes `data` in place, and notes in `source` where each value comes from."""

    def __init__(self, data: dict[str, Any], source: SourceMap) -> None:
        self._data = data
        self._source = source
        self._given: dict[PathTuple, str] = {}

    def set(self, setting: str) -> None:
        """One `a.b=value`. Raises ConfigError."""
        name, separator, text = setting.partition("=")
        parts = name.strip().split(".")
        if not separator or not all(parts):
            raise ConfigError(f"--set {setting} is not a setting", hint=_EXAMPLE)
        label = f"--set {name.strip()}"
        path = tuple(int(part) if _is_number(part) else part for part in parts)
        self.assign(path, _value_of(text, label), label)

    def assign(self, path: PathTuple, value: Any, label: str) -> None:
        """One field. label: the flag that gives it. Raises ConfigError."""
        if path == ("model",) and isinstance(value, str):
            path = ("model", "name")
        place = Position(label, None, None, Path.cwd())
        for at, leaf in _leaves(path, value):
            self._refuse_twice(at, place)
            self._given[at] = label
            if at[0] in _PROMPTS:
                forget_other_prompt(self._data, {str(at[0]): leaf})
            self._assign(at, leaf, place)

    def _refuse_twice(self, path: PathTuple, place: Position) -> None:
        for given, label in self._given.items():
            shorter = min(len(given), len(path))
            same = given[:shorter] == path[:shorter]
            if same or {given[0], path[0]} == set(_PROMPTS):
                raise place.error(
                    f"{dotted(path)} is given by {label} already",
                    hint="remove one of them",
                )

    def _assign(self, path: PathTuple, value: Any, place: Position) -> None:
        target: Any = self._data
        for index, part in enumerate(path):
            last = index == len(path) - 1
            if isinstance(target, list):
                if not isinstance(part, int) or part >= len(target):
                    raise place.error(
                        f"{dotted(path[:index])} is a list of {len(target)}",
                        hint=f"name an entry by its number, or set {dotted(path[:index])} as a "
                        "whole",
                    )
            elif not isinstance(target, dict):
                raise place.error(
                    f"{dotted(path[:index])} is not a mapping", hint=f"set {dotted(path[:index])}"
                )
            else:
                part = str(part)
                if not last and target.get(part) is None:
                    target[part] = {}
            if last:
                target[part] = value
            else:
                target = target[part]
        places = self._source.places
        for known in [at for at in places if at[: len(path)] == path]:
            del places[known]
        places[path] = place


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) < 9


def _leaves(path: PathTuple, value: Any) -> Iterator[tuple[PathTuple, Any]]:
    """The fields that a value gives: a mapping gives each of its own, an empty one itself."""
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for key, item in value.items():
        yield from _leaves((*path, key), item)


def _value_of(text: str, label: str) -> Any:
    """The YAML value of a setting. Raises ConfigError for what YAML would change without a word."""
    place = Position(label, None, None, Path.cwd())
    if not text.strip():
        name = label.removeprefix("--set ")
        raise place.error(
            "has no value", hint=f"write {name}=null for no limit, or {name}=[] for an empty list"
        )
    try:
        value, source = loads(text.encode("utf-8", "surrogateescape"), label, place.folder)
    except ConfigError as error:
        raise place.error(error.what, hint=error.hint) from None
    if source.doubts:
        raise place.error(source.doubts[0].what, hint="put the value in quotes, within the shell's")
    plain = text.strip()
    if isinstance(value, str) and plain[0] not in "\"'|>&!" and value != plain:
        raise place.error(
            f"{plain[:60]!r} is read as {value[:60]!r}",
            hint="put the value in quotes, within the shell's",
        )
    return value


def forget_other_prompt(farther: dict[str, Any], nearer: Mapping[str, Any]) -> None:
    """Removes `prompt_file` where a nearer layer has a `prompt`, and the other way round."""
    for name, other in (_PROMPTS, _PROMPTS[::-1]):
        if nearer.get(name) is not None and nearer.get(other) is None:
            farther.pop(other, None)
