"""`@tool`: marks a function as a tool. Standard library only: tools import it inside the walls, and
each call pays for it, so no `dataclasses` either (7 ms)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, overload

Function = TypeVar("Function", bound=Callable[..., Any])

MARK = "__sandbox_agent_tool__"
"""The attribute that carries a function's `ToolMark`. A worker reads it by this name."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What the providers of models accept as a tool's name. A worker checks it too."""


class ToolMark(NamedTuple):
    """What `@tool` leaves on a function. name: for the model; None for the function's own.
    exclusive: no other call of a turn runs while a call of this tool does."""

    name: str | None = None
    exclusive: bool = False


@overload
def tool(function: Function, /) -> Function: ...
@overload
def tool(*, name: str | None = None, exclusive: bool = False) -> Callable[[Function], Function]: ...
def tool(function: Any = None, /, *, name: str | None = None, exclusive: bool = False) -> Any:
    """Mark a function as a tool for a model; `@tool` or `@tool(name="search")`.

    The function itself is returned, and you can call it as before. The model gets its signature
    and its docstring. A parameter annotated `CancelToken` is not shown to the model: it receives
    the token of the call.

    name: the tool's name for the model, at most 64 of `A-Z a-z 0-9 _ -`. Default: the name of the
    function.

    exclusive: True for a tool that changes what other tools read or change. Calls of one turn run
    at the same time. A call of an exclusive tool begins when all earlier calls of the turn have
    ended, and later ones wait for its end. The model is told so.

    Raises TypeError for something that is not a function and for an `exclusive` that is not a bool,
    and ValueError for a name that a model cannot use.
    """
    if not isinstance(exclusive, bool):
        raise TypeError(f"@tool(exclusive={exclusive!r}): True or False")
    if name is not None and not _NAME.fullmatch(name):
        raise ValueError(
            f"@tool(name={name!r}): a tool's name is 1 to 64 letters, digits, '_' or '-'"
        )

    def mark(marked: Any) -> Any:
        if isinstance(marked, type) or not (
            callable(marked) or isinstance(marked, staticmethod | classmethod)
        ):
            raise TypeError(f"@tool marks functions, not {marked!r}; write @tool(name=...) to name")
        # The attribute of a class is the function below a static or class method: mark that.
        target = getattr(marked, "__func__", marked)
        try:
            setattr(target, MARK, ToolMark(name, exclusive))
        except AttributeError as error:
            raise TypeError(f"@tool cannot mark {marked!r}; wrap it in a function") from error
        return marked

    return mark if function is None else mark(function)
