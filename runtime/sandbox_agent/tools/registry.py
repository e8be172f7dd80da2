"""What a model is told of the tools that a conversation offers.

There is one mechanism: a tool is a Python function that a worker finds by its FunctionRef, the
built-in ones too. Functions of others are described by a worker, inside the walls: this process
does not import them. What is told of the built-in ones is in `built_in`.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox_agent_ipc.messages import FunctionRef, ToolProblem, ToolSpec

from sandbox_agent.config.functions import FunctionPlace, show
from sandbox_agent.errors import ConfigError
from sandbox_agent.journal.events import ToolEntry
from sandbox_agent.tools.built_in import BUILT_IN, HOME, SHELL, described
from sandbox_agent.tools.exec_tool import EXEC, EXEC_SPEC

if TYPE_CHECKING:
    from sandbox_agent_sandbox.policy.any_policy import AnyLimits

    from sandbox_agent.config.plain import PlainTool
    from sandbox_agent.config.settings import ToolChoice

Describe = Callable[[list[FunctionRef]], Awaitable[list[ToolSpec | ToolProblem]]]
"""Asks a worker what a model is told of functions."""


class Registry:
    """The tools of one conversation, by name, in the order in which they were listed."""

    def __init__(self, tools: Sequence[ToolEntry]) -> None:
        self._tools: dict[str, ToolEntry] = {}
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
    def tools(self) -> tuple[ToolEntry, ...]:
        return tuple(self._tools.values())

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        return tuple(tool.spec for tool in self._tools.values())

    def get(self, name: str) -> ToolEntry | None:
        return self._tools.get(name)

    def is_exclusive(self, name: str) -> bool:
        """Whether a call of this tool runs alone in its turn. False for a name that is not known:
        such a call runs nothing."""
        tool = self._tools.get(name)
        return tool is not None and tool.spec.exclusive


def time_for(tool: ToolEntry, arguments: Mapping[str, Any], limit: float | None) -> float | None:
    """Seconds that one call may take: the smallest of the policy's limit, the tool's own timeout
    and, for the shell, the one that the model asks for."""
    asked = arguments.get("timeout") if tool.spec.function == SHELL else None
    times = [limit, tool.timeout, _seconds(asked)]
    return min((time for time in times if time is not None), default=None)


def _seconds(asked: object) -> float | None:
    """The time that a model asks for; None if it is no time, which the tool then says."""
    if isinstance(asked, bool) or not isinstance(asked, int | float):
        return None
    try:
        seconds = float(asked)
    except OverflowError:  # an integer with more digits than a float holds
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None


async def resolve(
    choices: Sequence[ToolChoice] | Sequence[PlainTool],
    describe: Describe,
    limits: AnyLimits | None = None,
    *,
    has_mounts: bool = True,
) -> Registry:
    """Find out what a model is told of each tool.

    describe: asks a worker about functions that this process does not import. limits: of the
    policy. The model is told them, but with a file tool, which does not come near them. has_mounts:
    whether what tools do not see is not there for them; if not, the model is told that once.
    Raises ConfigError for what cannot be a tool, naming function, reason and hint.
    """
    wanted = [(one, ours, c.timeout) for c in choices for one, ours in _functions(c)]
    hints = [_hint(choice) for choice in choices for _, ours in _functions(choice) if not ours]
    foreign = [one for one, ours, _ in wanted if not ours]
    told = await describe(foreign) if foreign else []
    answers = iter(zip(told, hints, strict=True))
    built_in = described()
    tools = [
        ToolEntry(_described(one, built_in) if ours else _checked(*next(answers)), timeout)
        for one, ours, timeout in wanted
    ]
    if limits is not None:
        from sandbox_agent.tools.told_limits import with_limits

        plain = set(BUILT_IN["files"])
        tools = [one if one.spec.function in plain else with_limits(one, limits) for one in tools]
    if tools and not has_mounts:
        from sandbox_agent.tools.told_limits import WITHOUT_NAMESPACES, with_remark

        tools[0] = with_remark(tools[0], WITHOUT_NAMESPACES)
    return Registry(tools)


def _functions(choice: ToolChoice | PlainTool) -> list[tuple[FunctionRef, bool]]:
    """The functions that a choice stands for, and whether each is known to be one of ours."""
    if isinstance(choice.tool, FunctionPlace):
        function = choice.tool.function
        return [(function, function.module.startswith(f"{HOME}."))]
    if choice.tool in BUILT_IN:
        return [(function, True) for function in BUILT_IN[choice.tool]]
    module, _, qualname = choice.tool.partition(":")
    return [(FunctionRef(module, qualname), False)]


def _described(reference: FunctionRef, built_in: Mapping[FunctionRef, ToolSpec]) -> ToolSpec:
    if reference == EXEC:
        return EXEC_SPEC
    if reference in built_in:
        return built_in[reference]
    # Another function of ours, that was given as an object.
    from sandbox_agent_sandbox.inside.worker.signature import describe

    function = getattr(importlib.import_module(reference.module), reference.qualname)
    return describe(function, reference)


def _checked(answer: ToolSpec | ToolProblem, hint: str) -> ToolSpec:
    if isinstance(answer, ToolProblem):
        # In one line: the reason may be the tool's own words, in the form of a message of ours.
        reason = " ".join(answer.reason.split())
        what = f"{show(answer.function)} cannot be a tool: {reason}"
        raise ConfigError(what, field="tools", hint=hint)
    return answer


def _hint(choice: ToolChoice | PlainTool) -> str:
    """What to do if a function cannot be a tool."""
    if isinstance(choice.tool, FunctionPlace) and choice.tool.root is not None:
        root = Path(choice.tool.root)
        if _is_too_wide(root):
            return (
                f"tools do not see {root}, which is or holds your home folder, and of its files "
                "only the script that you run; put the script and its modules into a folder of "
                "their own"
            )
    return (
        "name a function of an installed module or of the workspace's; it is imported inside the "
        "sandbox, where only what the policy allows can be read"
    )


def _is_too_wide(folder: Path) -> bool:
    """Whether a folder is the home folder, or holds it: tools never see it as a whole."""
    home = Path(os.path.realpath(os.path.expanduser("~")))
    real = Path(os.path.realpath(folder))
    return real == home or real in home.parents


def import_roots(
    choices: Sequence[ToolChoice] | Sequence[PlainTool], workspace: Path
) -> list[Path]:
    """Folders that workers must be able to import from, to find functions given as objects.

    The interpreter's own installation is not among them: it is always visible. Where a script lies
    in the home folder itself, it is the script alone, unless the workspace shows it.
    """
    installed = [Path(prefix) for prefix in (sys.prefix, sys.base_prefix)]
    roots: dict[Path, None] = {}
    for choice in choices:
        if isinstance(choice.tool, FunctionPlace) and choice.tool.root is not None:
            root, script = Path(choice.tool.root), choice.tool.function.file
            if script is not None and _is_too_wide(root) and not root.is_relative_to(workspace):
                root = Path(script)
            if not any(prefix in root.parents for prefix in installed):
                roots[root] = None
    return list(roots)
