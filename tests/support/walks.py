"""The walks of `runtime/README.md`, held against the sources.

Below the heading `## Walks`, each `### Title` is a walk: a numbered list of steps, each of them
`path/file.py:function` or `path/file.py:Class.method` in backticks, then what happens there. A
step is connected when an earlier step of its walk names its function (or the class, where it is a
method such as `__init__`). Where a message or a callback connects them, the step says so, as in
"via `Started`": then both name that.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from sources import Function, Sources

TOPICS = ("tool call", "interrupt", "model request", "resume")
"""What the title of one walk each names."""

FEWEST = 5
"""Steps of a walk at least."""

_STEP = re.compile(r"(\d+)\. `([^`:]+\.py):([A-Za-z_][\w.]*)`(.*)")
_VIA = re.compile(r"\bvia `([A-Za-z_]\w*)`")


@dataclass(frozen=True)
class Step:
    file: str
    function: str
    said: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.function}"

    @property
    def called(self) -> str:
        """What calls it by name."""
        *classes, name = self.function.split(".")
        return classes[-1] if classes and name.startswith("__") else name


@dataclass
class Walk:
    title: str
    steps: list[Step] = field(default_factory=list)


def read(text: str) -> tuple[list[Walk], list[str]]:
    """The walks of a README, and complaints about lines that are not steps."""
    walks: list[Walk] = []
    wrong: list[str] = []
    here = False
    joined = re.sub(r"\n {2,}(?=\S)", " ", text)  # a step may go on in the next line
    for line in joined.splitlines():
        if line.startswith("## "):
            here = line == "## Walks"
        elif here and line.startswith("### "):
            walks.append(Walk(line.removeprefix("### ").strip()))
        elif here and (line[:1].isdigit() or line.startswith(("-", "*"))):
            found = _STEP.match(line)
            if not walks or not found:
                wrong.append(f"not a step of a walk: {line!r}")
            elif int(found[1]) != len(walks[-1].steps) + 1:
                wrong.append(f"not the number of this step: {line!r}")
            else:
                walks[-1].steps.append(Step(found[2], found[3], found[4]))
    return walks, wrong


def look_up(sources: Sources, step: Step) -> Function:
    """The function that a step names. Raises LookupError if there is none, or more than one."""
    files = [one for one in sources.values() if f"/{one.path}".endswith(f"/{step.file}")]
    if len(files) != 1:
        raise LookupError(f"{step.file} is the end of {len(files)} paths: {step.place}")
    found: list[ast.AST] = [files[0].tree]
    for name in step.function.split("."):
        found = [
            child
            for node in found
            for child in _definitions(node)
            if getattr(child, "name", "") == name
        ]
    functions = [node for node in found if isinstance(node, Function)]
    if not functions:
        raise LookupError(f"{files[0].path} has no function {step.function}")
    return functions[-1]  # of a property's two, the setter


def _definitions(node: ast.AST) -> Iterator[ast.AST]:
    """What is defined in a module, class or function, also below `if` and `with`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            yield child
        else:
            yield from _definitions(child)


def names(function: Function) -> set[str]:
    """Every identifier in a function, its signature and decorators, and every word of its strings,
    as in `-m package.module`. A docstring connects nothing."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    parts: list[ast.AST] = [function.args, *function.decorator_list, *body]
    if function.returns is not None:
        parts.append(function.returns)
    found: set[str] = set()
    for node in (node for part in parts for node in ast.walk(part)):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.update(re.findall(r"[A-Za-z_]\w*", node.value))
    return found


def complaints(sources: Sources, text: str) -> list[str]:
    """All that is wrong with the walks in a README."""
    walks, wrong = read(text)
    for walk in walks:
        before: set[str] = set()
        for n, step in enumerate(walk.steps):
            try:
                own = names(look_up(sources, step))
            except LookupError as error:
                wrong.append(f"{walk.title}: {error}")
                continue
            via = _VIA.findall(step.said)
            connected = step.called in before or any(name in before & own for name in via)
            if n and not connected:
                how = f"{' or '.join(via)} in both, nor " if via else ""
                wrong.append(f"{walk.title}: no earlier step names {how}{step.place}")
            before |= own
        if len(walk.steps) < FEWEST:
            wrong.append(f"{walk.title}: {len(walk.steps)} steps; a walk has {FEWEST} or more")
    for topic in TOPICS:
        count = sum(topic in walk.title.lower() for walk in walks)
        if count != 1:
            wrong.append(f"{count} walks of one {topic}")
    return wrong
