"""From a task file and the command line's additions to a Task.

The steps, in this order:

1. The file is read, and `${name}` in its strings is replaced.
2. `extends` brings in the file that it is based on. Fields of the nearer file win.
3. `--set` and flags replace fields.
4. Relative paths become absolute: from the folder of the file that they stand in, or from the
   current folder for `--set` and flags.
5. The result is validated.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sandbox_agent_sandbox.policy.explain import dotted

from sandbox_agent.config.task import Task
from sandbox_agent.config.validation_errors import config_error
from sandbox_agent.config.yaml_source import PathTuple, Position, SourceMap, load, loads
from sandbox_agent.errors import ConfigError

MAX_EXTENDS = 10
MAX_PROMPT = 1024 * 1024
"""Bytes of a prompt_file, or of a prompt from standard input."""

_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_.-]*)\}|\$\{")
_PATH_FIELDS: tuple[tuple[str, ...], ...] = (
    ("prompt_file",),
    ("workspace", "path"),
    ("output", "dir"),
    *(("sandbox", name, "*") for name in ("read", "write", "hide", "protect")),
)


def load_task(path: str | Path, variables: Mapping[str, str] | None = None) -> Task:
    """The task of a task file.

    variables: for `${name}` in its strings. Raises ConfigError.
    """
    return read_task(path, variables or {})[0]


def read_task(
    path: str | Path | None,
    variables: Mapping[str, str],
    settings: Sequence[str] = (),
    overrides: Mapping[str, tuple[Any, str]] | None = None,
) -> tuple[Task, SourceMap]:
    """A task and the places of its values.

    path: the task file; None if the command line replaces it. settings: `a.b=value` with a YAML
    value; each replaces a field. overrides: for a field's dotted name, the value that wins over
    everything and the flag that gave it. A prompt there also replaces a prompt_file.
    Raises ConfigError.
    """
    if path is None:
        here = Position("command line", None, None, Path.cwd())
        data: Any = {"version": 1}
        source = SourceMap(here)
    else:
        data, source = _read_file(Path(path), variables, ())
    return _settled(data, source, settings, overrides or {})


def amend_task(
    data: dict[str, Any],
    name: str,
    settings: Sequence[str],
    overrides: Mapping[str, tuple[Any, str]],
) -> tuple[Task, SourceMap]:
    """As `read_task`, for fields that are no file's. name: their source, for messages."""
    source = SourceMap(Position(name, None, None, Path.cwd()))
    return _settled({"version": 1, **data}, source, settings, overrides)


def _settled(
    data: Any,
    source: SourceMap,
    settings: Sequence[str],
    overrides: Mapping[str, tuple[Any, str]],
) -> tuple[Task, SourceMap]:
    for setting in settings:
        _apply_setting(data, source, setting)
    for name, (value, flag) in overrides.items():
        if name == "prompt":
            data.pop("prompt_file", None)
        place = Position(flag, None, None, Path.cwd())
        _assign(data, source, tuple(name.split(".")), value, place)
    anchor_paths(data, source, _PATH_FIELDS)
    _anchor_model(data, source)
    try:
        return Task.model_validate(data), source
    except ValidationError as error:
        raise config_error(error, Task, source) from None


def _read_file(
    path: Path, variables: Mapping[str, str], chain: tuple[Path, ...]
) -> tuple[dict[str, Any], SourceMap]:
    """A file, merged with the file that it extends."""
    loaded, source = load(path)
    if not isinstance(loaded, dict):
        raise source.error((), "must be a mapping", "write `name: value` lines, `version: 1` first")
    data: dict[str, Any] = substitute(loaded, source, variables)
    if "extends" not in data:
        return data, source
    base_name = data.pop("extends")
    if not isinstance(base_name, str) or not base_name:
        raise source.error(("extends",), "must name one file", "write extends: base.yaml")
    base_path = path.parent / base_name
    chain = (*chain, path.resolve())
    if base_path.resolve() in chain:
        raise source.error(
            ("extends",), f"{base_name} extends this file, so they form a circle", "remove one"
        )
    if len(chain) > MAX_EXTENDS:
        raise source.error(("extends",), f"more than {MAX_EXTENDS} files in a row", "use fewer")
    if not base_path.exists():
        raise source.error(("extends",), f"there is no file {base_path}", "check the path")
    base, base_source = _read_file(base_path, variables, chain)
    merged = _merge(base, data)
    # A list or a text of the nearer file replaces the base's as a whole, with its places.
    places = {
        at: place for at, place in base_source.places.items() if _same_place(data, at) and at != ()
    }
    return merged, SourceMap(source.start, {**places, **source.places})


def _same_place(nearer: Any, path: PathTuple) -> bool:
    """Whether the value at `path` of a base file is still there after the merge."""
    for part in path:
        if not isinstance(nearer, dict):
            return False
        if part not in nearer:
            return True
        nearer = nearer[part]
    return isinstance(nearer, dict)


def _merge(base: Mapping[str, Any], nearer: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in nearer.items():
        below = merged.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            merged[key] = _merge(below, value)
        else:
            merged[key] = value
    return merged


def substitute(data: Any, source: SourceMap, variables: Mapping[str, str]) -> Any:
    """`data` with `${name}` replaced in its strings (not in keys); `$${` stands for `${`.

    Raises ConfigError for a name that `variables` does not have.
    """

    def replace(value: Any, path: PathTuple) -> Any:
        if isinstance(value, dict):
            return {key: replace(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [replace(item, (*path, index)) for index, item in enumerate(value)]
        if not isinstance(value, str):
            return value

        def one(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            name = match[1]
            if name is None:
                raise source.error(path, "`${` without a name and `}`", "write $${ for a plain ${")
            if name not in variables:
                raise source.error(
                    path,
                    f"the variable {name} has no value",
                    f"give --var {name}=..., or write $${{{name}}} for plain text",
                )
            return variables[name]

        return _VARIABLE.sub(one, value)

    return replace(data, ())


def _apply_setting(data: dict[str, Any], source: SourceMap, setting: str) -> None:
    name, separator, text = setting.partition("=")
    parts = name.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(
            f"--set {setting} is not a setting", hint="write --set sandbox.network=host"
        )
    place = Position(f"--set {name.strip()}", None, None, Path.cwd())
    if text.strip():
        try:
            value, _ = loads(text.encode("utf-8", "surrogateescape"), place.file, place.folder)
        except ConfigError as error:
            raise place.error(error.what, hint=error.hint) from None
    else:
        value = None
    path = tuple(int(part) if part.isdigit() else part for part in parts)
    _assign(data, source, path, value, place)


def _assign(
    data: dict[str, Any], source: SourceMap, path: PathTuple, value: Any, place: Position
) -> None:
    """Sets one field, making mappings on the way, and notes that `place` said so."""
    target: Any = data
    for index, part in enumerate(path):
        last = index == len(path) - 1
        if isinstance(target, list):
            if not isinstance(part, int) or part >= len(target):
                raise place.error(
                    f"{dotted(path[:index])} is a list of {len(target)}",
                    hint=f"name an entry by its number, or set {dotted(path[:index])} as a whole",
                )
        elif not isinstance(target, dict):
            raise place.error(
                f"{dotted(path[:index])} is not a mapping", hint=f"set {dotted(path[:index])}"
            )
        else:
            part = str(part)
            if not last and not isinstance(target.get(part), dict | list):
                # A short form, such as `model: scripted:x`: the long form replaces it.
                target[part] = {}
        if last:
            target[part] = value
        else:
            target = target[part]
    for known in [at for at in source.places if at[: len(path)] == path]:
        del source.places[known]
    source.places[path] = place


def anchor_paths(data: Any, source: SourceMap, fields: Iterable[tuple[str, ...]]) -> None:
    """Makes relative paths absolute, from the folder of the file that each was written in.

    fields: names from the top to a path; "*" is every entry of a list.
    """
    for pattern in fields:
        _anchor(data, (), pattern, lambda at: source.position(at).folder)


def _anchor(
    data: Any, at: PathTuple, pattern: tuple[str, ...], folder: Callable[[PathTuple], Path]
) -> None:
    """Makes the paths that `pattern` names absolute, in place. What is not text is left alone."""
    if not pattern:
        return
    head, rest = pattern[0], pattern[1:]
    if head == "*":
        keys: Any = range(len(data)) if isinstance(data, list) else ()
    else:
        keys = (head,) if isinstance(data, dict) and head in data else ()
    for key in keys:
        value = data[key]
        if not rest and isinstance(value, str) and value and not value.startswith("~"):
            data[key] = str(folder((*at, key)) / value)
        else:
            _anchor(value, (*at, key), rest, folder)


def _anchor_model(data: dict[str, Any], source: SourceMap) -> None:
    """The same for `scripted:FILE`, and for `replay:RUN` where RUN is a path."""
    model = data.get("model")
    path: PathTuple = ("model", "name") if isinstance(model, dict) else ("model",)
    name = model.get("name") if isinstance(model, dict) else model
    if not isinstance(name, str):
        return
    kind, separator, rest = name.partition(":")
    by_path = kind == "scripted" or (kind == "replay" and os.sep in rest)
    if not by_path or not rest.strip():
        return
    anchored = f"{kind}{separator}{source.position(path).folder / os.path.expanduser(rest.strip())}"
    if isinstance(model, dict):
        data["model"] = {**model, "name": anchored}
    else:
        data["model"] = anchored


def prompt_of(task: Task, source: SourceMap) -> str:
    """The prompt: `prompt`, or the text of `prompt_file`. Raises ConfigError."""
    if task.prompt is not None:
        return task.prompt
    if task.prompt_file is None:
        raise source.error(("prompt",), "is required", "add `prompt: ...`, or give --prompt")
    try:
        with open(task.prompt_file, "rb") as file:
            raw = file.read(MAX_PROMPT + 1)
        if len(raw) > MAX_PROMPT:
            raise source.error(("prompt_file",), "is longer than 1 MiB", "shorten it")
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise source.error(
            ("prompt_file",), f"{task.prompt_file}: {error.strerror}", "name a file with the prompt"
        ) from None
    except UnicodeDecodeError:
        raise source.error(
            ("prompt_file",), f"{task.prompt_file} is not UTF-8", "save the file as UTF-8"
        ) from None
    if not text.strip():
        raise source.error(("prompt_file",), f"{task.prompt_file} is empty", "write the prompt")
    return text
