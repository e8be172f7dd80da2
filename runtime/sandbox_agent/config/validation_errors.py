"""What pydantic found wrong, as one ConfigError with file, line, field and hint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from sandbox_agent_sandbox.policy.fields.explain import explain, kind_of

from sandbox_agent.config.yaml_source import PathTuple, SourceMap
from sandbox_agent.errors import ConfigError

MAX_SHOWN = 10
"""Problems that one message lists."""


def config_error(
    error: ValidationError,
    model: type[BaseModel],
    source: SourceMap | None = None,
    *,
    prefix: PathTuple = (),
) -> ConfigError:
    """One ConfigError for all that `error` lists, in the order of the file.

    model: what was validated. source: where its values were written; None for values of a Python
    program. prefix: the path of the model in a task.
    """
    source = source or SourceMap.of_program()
    problems = []
    for detail in error.errors(include_url=False, include_input=True):
        path = _written_path(tuple(detail["loc"]), source)
        what, hint = _explain(detail, model)
        place = source.position(path)
        problems.append((place.file != source.start.file, place.line or 0, path, what, hint))
    problems.sort(key=lambda problem: problem[:2])
    errors = [
        source.error((*prefix, *path), what, hint)
        for _, _, path, what, hint in problems[:MAX_SHOWN]
    ]
    first = errors[0]
    first.others = tuple(errors[1:])
    return first


def _written_path(loc: PathTuple, source: SourceMap) -> PathTuple:
    """`loc` as the file spells it: short forms stand for mappings that are not in the file."""
    path = tuple(part for part in loc if part != "[key]")
    while path and path not in source.places and path[-1] in ("name", "tool"):
        path = path[:-1]
    if path[:1] == ("tools",) and len(path) == 3 and path not in source.places:
        # `- shell: {timeout: 60s}` is validated as `{tool: shell, timeout: 60s}`.
        for written in source.places:
            if len(written) == 4 and written[:2] == path[:2] and written[3] == path[2]:
                return written
    return path


def _explain(detail: Mapping[str, Any], model: type[BaseModel]) -> tuple[str, str | None]:
    kind, loc = detail["type"], tuple(detail["loc"])
    if kind == "missing" and loc in _EXAMPLES:
        return "is required", f"add `{_EXAMPLES[loc]}`"
    if kind == "model_type" and loc[:1] == ("tools",):
        what = f"must be a tool, not {kind_of(detail.get('input'))}"
        return what, "write shell, files or module:function"
    return explain(detail, model)


_EXAMPLES: Mapping[PathTuple, str] = {
    ("version",): "version: 1",
    ("model",): "model: scripted:steps.yaml",
}
