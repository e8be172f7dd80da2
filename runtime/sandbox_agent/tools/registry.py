"""Which tools a conversation offers, and where their functions are.

There is one mechanism: a tool is a Python function that a worker finds by its FunctionRef, the
built-in ones too. Functions that a task file names are described by a worker, inside the walls:
this process imports none of them. Functions that a program hands over as objects are described
here, where they have been imported already.
"""

from __future__ import annotations

import importlib
import math
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox_agent_ipc.messages import FunctionRef, ToolProblem, ToolSpec

from sandbox_agent.errors import ConfigError
from sandbox_agent.journal.events import ToolSetting

_FILES = "sandbox_agent_sandbox.inside.tools.files"

BUILT_IN: dict[str, tuple[FunctionRef, ...]] = {
    "shell": (FunctionRef("sandbox_agent_sandbox.inside.tools.shell", "shell"),),
    "files": tuple(
        FunctionRef(_FILES, name)
        for name in (
            "read_file",
            "write_file",
            "edit_file",
            "list_files",
            "find_files",
            "search_files",
        )
    ),
}
"""Built-in names and the functions that each stands for."""

SHELL = BUILT_IN["shell"][0]

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")

Function = Callable[..., Any]
Describe = Callable[[list[FunctionRef]], Awaitable[list[ToolSpec | ToolProblem]]]


@dataclass(frozen=True)
class ToolChoice:
    """A tool, or a built-in set of them, that a conversation is to offer.

    tool: a built-in name, `package.module:function`, a function, or where one lies.
    timeout: wall time of one call in seconds; None for the policy's.
    root: for where a function lies, the folder that workers must be able to import from.
    """

    tool: str | Function | FunctionRef
    timeout: float | None = None
    root: Path | None = None


@dataclass(frozen=True)
class Tool:
    """A tool as it is offered and called. timeout: its own, in seconds."""

    spec: ToolSpec
    timeout: float | None = None

    def time_for(self, arguments: Mapping[str, Any], limit: float | None) -> float | None:
        """Seconds that one call may take: the smallest of the policy's limit, the tool's own
        timeout and, for the shell, the one that the model asks for."""
        asked = arguments.get("timeout") if self.spec.function == SHELL else None
        usable = isinstance(asked, int | float) and math.isfinite(asked) and asked > 0
        times = [limit, self.timeout, float(asked) if usable and asked is not None else None]
        return min((time for time in times if time is not None), default=None)


class Registry:
    """The tools of one conversation, by name, in the order in which they were listed."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            known = self._tools.setdefault(tool.spec.name, tool)
            if known is not tool:
                raise ConfigError(
                    f"two tools are called {tool.spec.name}: {show(known.spec.function)} and "
                    f"{show(tool.spec.function)}",
                    field="tools",
                    hint='remove one, or give one another name with @tool(name="...")',
                )

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(self._tools.values())

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        return tuple(tool.spec for tool in self._tools.values())

    def get(self, name: str) -> Tool | None:
        return self._tools.get(name)


def choose(entries: Sequence[Any] | None) -> tuple[ToolChoice, ...]:
    """The choices that people's entries stand for: "shell", "pkg.mod:fn", {"shell": {"timeout":
    60}}, a function, or a ToolChoice; None for all that is built in. Raises ConfigError."""
    return tuple(_choice(entry) for entry in (BUILT_IN if entries is None else entries))


def _choice(entry: Any) -> ToolChoice:
    if isinstance(entry, ToolChoice):
        choice = entry
    elif isinstance(entry, Mapping):
        choice = _with_options(entry)
    else:
        choice = ToolChoice(entry)
    tool = choice.tool
    if isinstance(tool, str):
        if tool not in BUILT_IN and not _NAME.fullmatch(tool):
            raise _bad(f"{tool!r} is not a tool")
    elif not callable(tool) and not isinstance(tool, FunctionRef):
        raise _bad(f"{tool!r} is not a tool")
    return choice


def setting_of(choice: ToolChoice) -> ToolSetting:
    """A choice as the journal keeps it: another process has no function objects of ours."""
    tool, root = choice.tool, _root_of(choice)
    if not isinstance(tool, str | FunctionRef):
        tool = reference_of(tool)
    return ToolSetting(tool, choice.timeout, None if root is None else str(root))


def choice_of(setting: ToolSetting) -> ToolChoice:
    """The choice that a journal kept."""
    root = None if setting.root is None else Path(setting.root)
    return ToolChoice(setting.tool, setting.timeout, root)


def _with_options(entry: Mapping[Any, Any]) -> ToolChoice:
    if len(entry) != 1:
        raise _bad("an entry with options names one tool")
    ((tool, options),) = entry.items()
    unknown = [key for key in options or {} if key != "timeout"]
    if unknown:
        raise _bad(f"{unknown[0]!r} is not an option of a tool")
    timeout = (options or {}).get("timeout")
    if timeout is None:
        return ToolChoice(tool)
    from sandbox_agent_sandbox.policy.units import parse_duration

    try:
        return ToolChoice(tool, parse_duration(timeout))
    except ValueError as error:
        raise _bad(f"the timeout of {tool}: {error}") from None


def _bad(what: str) -> ConfigError:
    known = ", ".join(BUILT_IN)
    return ConfigError(
        what,
        field="tools",
        hint=f"give {known}, package.module:function, a function, or {{name: {{timeout: 60s}}}}",
    )


async def resolve(choices: Sequence[ToolChoice], describe: Describe) -> Registry:
    """Find out what a model is told of each tool.

    describe: asks a worker about functions that this process does not import.
    Raises ConfigError for what cannot be a tool, naming function, reason and hint.
    """
    foreign = [reference for choice in choices if (reference := _foreign(choice)) is not None]
    answers = iter(await describe(foreign) if foreign else [])
    tools: list[Tool] = []
    for choice in choices:
        if _foreign(choice) is not None:
            tools.append(Tool(_answer(next(answers)), choice.timeout))
        elif isinstance(choice.tool, str):
            for reference in BUILT_IN[choice.tool]:
                function = getattr(importlib.import_module(reference.module), reference.qualname)
                tools.append(Tool(_described_here(reference, function), choice.timeout))
        elif not isinstance(choice.tool, FunctionRef):
            spec = _described_here(reference_of(choice.tool), choice.tool)
            tools.append(Tool(spec, choice.timeout))
    return Registry(tools)


def _foreign(choice: ToolChoice) -> FunctionRef | None:
    """Where a function lies that this process does not import; None for the others."""
    if isinstance(choice.tool, FunctionRef):
        return choice.tool
    if isinstance(choice.tool, str) and choice.tool not in BUILT_IN:
        module, _, qualname = choice.tool.partition(":")
        return FunctionRef(module, qualname)
    return None


def _answer(answer: ToolSpec | ToolProblem) -> ToolSpec:
    if isinstance(answer, ToolProblem):
        raise ConfigError(
            f"{show(answer.function)} cannot be a tool: {answer.reason}",
            field="tools",
            hint="name a function of an installed module or of the workspace's; it is imported "
            "inside the sandbox, where only what the policy allows can be read",
        )
    return answer


def _described_here(reference: FunctionRef, function: Function) -> ToolSpec:
    from sandbox_agent_sandbox.inside.worker.signature import SignatureError, describe

    try:
        return describe(function, reference)
    except SignatureError as error:
        raise ConfigError(
            f"{show(reference)} cannot be a tool: {error}",
            field="tools",
            hint="change its signature",
        ) from None


def reference_of(function: Function) -> FunctionRef:
    """Where a worker finds a function that was handed over as an object.

    Raises ConfigError for one that has no place there: a lambda, a function within a function, one
    of an interactive session.
    """
    module = getattr(function, "__module__", None)
    qualname = getattr(function, "__qualname__", None)
    if not module or not qualname or "<" in qualname:
        raise _unreachable(function, "it has no name at the top of a module")
    file = None
    if module == "__main__":
        script = getattr(sys.modules["__main__"], "__file__", None)
        if script is None or not Path(script).is_file():
            raise _unreachable(function, "it was not read from a file")
        file = str(Path(script).absolute())
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise _unreachable(function, f"there is no {qualname} in {module}")
    return FunctionRef(module, qualname, file)


def _unreachable(function: Function, why: str) -> ConfigError:
    return ConfigError(
        f"{function!r} cannot be a tool: {why}, so that a worker cannot find it",
        field="tools",
        hint="define it with `def` at the top of a module or script",
    )


def import_roots(choices: Sequence[ToolChoice]) -> list[Path]:
    """Folders that workers must be able to import from to find the functions handed over as
    objects. Those of the interpreter's own installation are not among them: they are always
    visible."""
    installed = [Path(prefix) for prefix in (sys.prefix, sys.base_prefix)]
    roots: list[Path] = []
    for choice in choices:
        root = _root_of(choice)
        if root is None or root in roots or any(prefix in root.parents for prefix in installed):
            continue
        roots.append(root)
    return roots


def _root_of(choice: ToolChoice) -> Path | None:
    """The folder that the function of a choice is imported from; None for names, which are found
    among what is installed and in the workspace."""
    if isinstance(choice.tool, str | FunctionRef):
        return choice.root
    reference = reference_of(choice.tool)
    file = reference.file or getattr(sys.modules[reference.module], "__file__", None)
    if file is None:
        return None
    path = Path(file).absolute()
    levels = 0 if reference.file else reference.module.count(".")
    if path.name == "__init__.py":
        levels += 1
    return path.parents[min(levels, len(path.parents) - 1)]


def show(reference: FunctionRef) -> str:
    """As people write it: `package.module:function`, or `script.py:function`."""
    return f"{reference.file or reference.module}:{reference.qualname}"
