"""Where a worker finds a function that a program gave as an object.

A worker is another process: it imports the function anew, by module and name. So a function must
be what stands under its name at the top of a module or script.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from sandbox_agent_ipc.messages import FunctionRef


class FunctionPlace(msgspec.Struct, frozen=True):
    """Where a function lies that was given as an object.

    root: the folder that workers import its module from; None for a module without a file.
    """

    function: FunctionRef
    root: str | None = None

    def __str__(self) -> str:
        return show(self.function)


def show(reference: FunctionRef) -> str:
    """As people write it: `package.module:function`, or `script.py:function`."""
    return f"{reference.file or reference.module}:{reference.qualname}"


def place_of(function: Callable[..., Any]) -> FunctionPlace:
    """Where a worker finds `function`.

    Raises ValueError for what a worker cannot find or cannot call: a class, a method, a lambda, a
    function within a function, one of an interactive session.
    """
    module = getattr(function, "__module__", None)
    qualname = getattr(function, "__qualname__", None)
    if isinstance(function, type):
        raise _no_tool(function, "it is a class", "give a function that makes one and uses it")
    if not module or not qualname or "<" in qualname:
        raise _no_tool(function, "it has no name at the top of a module")
    name = _name_of_main() if module == "__main__" else module
    script = _script() if name == "__main__" else None
    if name == "__main__" and script is None:
        raise _no_tool(function, "it was not read from a file")
    owner, found = None, sys.modules.get(module)
    for part in qualname.split("."):
        owner, found = found, getattr(found, part, None)
    if not callable(found):
        raise _no_tool(function, f"there is no {qualname} in {module}")
    if isinstance(owner, type) and _needs_object(owner, qualname.rpartition(".")[2]):
        raise _no_tool(
            function,
            f"it is a method of {owner.__name__}, and a worker has no object of that class",
            "give a function that makes the object, or a static method",
        )
    if found != function:
        raise _no_tool(function, f"{qualname} in {module} is another object")
    reference = FunctionRef(name, qualname, None if script is None else str(script))
    return FunctionPlace(reference, _root(reference, sys.modules[module]))


def _needs_object(owner: type, name: str) -> bool:
    import inspect  # here, since few tools are given as methods

    return not isinstance(inspect.getattr_static(owner, name), staticmethod | classmethod)


def _script() -> Path | None:
    file = getattr(sys.modules["__main__"], "__file__", None)
    return Path(file).absolute() if file is not None and Path(file).is_file() else None


def _name_of_main() -> str:
    """The name under which workers import the program: of a module of a package, run with
    `python -m package.module`, its own. Its relative imports need it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return str(spec.name) if spec is not None and spec.parent else "__main__"


def _root(reference: FunctionRef, module: ModuleType) -> str | None:
    file = reference.file or getattr(module, "__file__", None)
    if file is None:
        return None
    path = Path(file).absolute()
    levels = 0 if reference.file else reference.module.count(".")
    if path.name == "__init__.py":
        levels += 1
    return str(path.parents[min(levels, len(path.parents) - 1)])


def _no_tool(
    function: object, why: str, hint: str = "define it with `def` at the top of a module or script"
) -> ValueError:
    return ValueError(f"{function!r} cannot be a tool: {why}, so a worker cannot call it; {hint}")
