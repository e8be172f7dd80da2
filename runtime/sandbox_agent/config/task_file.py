"""From a task file and the command line's additions to a Task.

The steps, in this order:

1. The file is read, and `${name}` in its strings is replaced.
2. `extends` brings in the file that it is based on. Fields of the nearer file win.
3. `--set` and flags replace fields (see `command_line`).
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
from sandbox_agent_sandbox.policy.fields.explain import suggest
from sandbox_agent_sandbox.put_off import expression

from sandbox_agent.config.command_line import CommandLine, Given, forget_other_prompt
from sandbox_agent.config.model_settings import USUAL
from sandbox_agent.config.settings import merge
from sandbox_agent.config.task import LOCAL, Task
from sandbox_agent.config.validation_errors import config_error
from sandbox_agent.config.yaml_source import PathTuple, Position, SourceMap, load
from sandbox_agent.embedding.warn import notify
from sandbox_agent.errors import ConfigError

MAX_EXTENDS = 10
SHORT_FORMS = {"model": "name"}
"""Fields that are a mapping, and that a text may stand for: it is this field of the mapping."""
MAX_PROMPT = 1024 * 1024
"""Bytes of a prompt_file, or of a prompt from standard input."""

_VARIABLE = expression(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_.-]*)\}|\$\{")
_PATH_FIELDS: tuple[tuple[str, ...], ...] = (
    ("prompt_file",),
    ("workspace", "path"),
    *(("output", name) for name in ("dir", "run_dir", "junit", "summary", "codequality", "dotenv")),
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
    overrides: Mapping[str, Given] | None = None,
    default_model: Given | None = None,
) -> tuple[Task, SourceMap]:
    """A task and the places of its values.

    path: the task file; None if the command line replaces it. settings: `a.b=value` with a YAML
    value; each replaces a field, and a mapping those that it names. overrides: for a field's dotted
    name, the value that wins over everything and the flag that gave it. default_model: the name of
    the model where nothing else names one. Raises ConfigError.
    """
    if path is None:
        data: dict[str, Any] = {"version": 1}
        source = SourceMap(Position("command line", None, None, Path.cwd()))
        used: set[str] = set()
    else:
        used = set()
        data, source = _read_file(Path(path), variables, (), used)
    for name in variables:
        if name not in used:
            shown = "the command line" if path is None else path
            raise ConfigError(
                f"{shown} has no ${{{name}}} to replace",
                file=f"--var {name}",
                hint=suggest(name, used) if used else "remove it",
            )
    return _settled(data, source, settings, overrides or {}, default_model)


def amend_task(
    data: dict[str, Any],
    name: str,
    settings: Sequence[str],
    overrides: Mapping[str, Given],
) -> tuple[Task, SourceMap]:
    """As `read_task`, for fields that are no file's. name: their source, for messages."""
    source = SourceMap(Position(name, None, None, Path.cwd()), files=[name])
    data = {"version": 1, **data}
    _expand(data)
    return _settled(data, source, settings, overrides)


def _settled(
    data: dict[str, Any],
    source: SourceMap,
    settings: Sequence[str],
    overrides: Mapping[str, Given],
    default_model: Given | None = None,
) -> tuple[Task, SourceMap]:
    before = _model_name(data)
    commands = CommandLine(data, source)
    for setting in settings:
        commands.set(setting)
    for name, (value, flag) in overrides.items():
        commands.assign(tuple(name.split(".")), value, flag)
    if default_model is not None and _model_name(data) is None:
        commands.assign(("model",), *default_model)
    _settle_model(data, source, before)
    anchor_paths(data, source, _PATH_FIELDS)
    _anchor_model(data, source)
    try:
        return Task.model_validate(data), source
    except ValidationError as error:
        raise config_error(error, Task, source) from None


def _model_name(data: Mapping[str, Any]) -> Any:
    model = data.get("model")
    return model.get("name") if isinstance(model, dict) else None


def _expand(data: dict[str, Any]) -> None:
    """Replaces short forms by the mappings that they stand for, so that files, `--set` and flags
    are merged field by field."""
    for name, field in SHORT_FORMS.items():
        if isinstance(data.get(name), str):
            data[name] = {field: data[name]}


def _settle_model(data: dict[str, Any], source: SourceMap, before: Any) -> None:
    """Where a nearer layer names a model of another kind, leaves out the fields that only the
    model of a farther layer could have had, and says so."""
    model, name = data.get("model"), _model_name(data)
    if not isinstance(model, dict) or not isinstance(name, str):
        return
    kind, nearness = name.partition(":")[0], source.layer(("model", "name"))
    local = kind in LOCAL
    for field in [*USUAL] if local else ["check"]:
        if field not in model or (field == "check" and kind == "replay"):
            continue
        path = source.nearest(("model", field))
        if source.layer(path) < nearness:
            notify(str(source.error(path, f"has no effect on {name}, and is left out")))
            del model[field]
        elif source.layer(path) > nearness:
            what = f"{field} is for providers' models, and {name} is none"
            raise source.error(
                path, what if local else f"{name} has no recorded results to check", "remove it"
            )
    provider = name.partition("/")[0]
    if isinstance(before, str) and not local and before.partition("/")[0] != provider:
        address = model.get("api_base")
        if address is not None and source.layer(("model", "api_base")) < nearness:
            notify(
                str(
                    source.error(
                        ("model", "api_base"),
                        f"{address} stays, and {name} is asked there",
                        "give --set model.api_base=null to ask the provider's own address",
                    )
                )
            )


def _read_file(
    path: Path, variables: Mapping[str, str], chain: tuple[Path, ...], used: set[str]
) -> tuple[dict[str, Any], SourceMap]:
    """A file, merged with the file that it extends. used: gets the variables that it names."""
    loaded, source = load(path)
    source.files = [source.start.file]
    if not isinstance(loaded, dict):
        raise source.error((), "must be a mapping", "write `name: value` lines, `version: 1` first")
    data: dict[str, Any] = substitute(loaded, source, variables, used)
    _expand(data)
    if "extends" not in data:
        return data, source
    base_name = data.pop("extends")
    if not isinstance(base_name, str) or not base_name.strip() or "\0" in base_name:
        raise source.error(("extends",), "must name one file", "write extends: base.yaml")
    base_path = path.parent / base_name
    chain = (*chain, path.resolve())
    if _resolved(base_path, source) in chain:
        raise source.error(
            ("extends",), f"{base_name} extends this file, so they form a circle", "remove one"
        )
    if len(chain) > MAX_EXTENDS:
        raise source.error(("extends",), f"more than {MAX_EXTENDS} files in a row", "use fewer")
    if not os.path.exists(base_path):
        raise source.error(("extends",), f"there is no file {base_path}", "check the path")
    base, base_source = _read_file(base_path, variables, chain, used)
    forget_other_prompt(base, data)
    merged = merge(base, data)
    # A list or a text of the nearer file replaces the base's as a whole, with its places.
    places = {
        at: place for at, place in base_source.places.items() if _same_place(data, at) and at != ()
    }
    files = [*base_source.files, source.start.file]
    return merged, SourceMap(source.start, {**places, **source.places}, files=files)


def _resolved(path: Path, source: SourceMap) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        why = getattr(error, "strerror", None) or "its links form a circle"
        raise source.error(("extends",), f"{path}: {why}", "check the path") from None


def _same_place(nearer: Any, path: PathTuple) -> bool:
    """Whether the value at `path` of a base file is still there after the merge."""
    for part in path:
        if not isinstance(nearer, dict):
            return False
        if part not in nearer:
            return True
        nearer = nearer[part]
    return isinstance(nearer, dict)


def substitute(data: Any, source: SourceMap, variables: Mapping[str, str], used: set[str]) -> Any:
    """`data` with `${name}` replaced in its strings (not in keys); `$${` stands for `${`.

    used: gets each name that was replaced. Raises ConfigError for a name that `variables` does not
    have.
    """

    def replace(value: Any, path: PathTuple) -> Any:
        if isinstance(value, dict):
            for key in value:
                if _VARIABLE.search(key):
                    raise source.error(
                        (*path, key),
                        "`${` is in a key, and variables stand for values only",
                        "write the name itself",
                    )
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
            used.add(name)
            return variables[name]

        return _VARIABLE.sub(one, value)

    return replace(data, ())


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
