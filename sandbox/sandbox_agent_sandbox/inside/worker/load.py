"""From a FunctionRef to the function. It runs users' code, and its errors become LoadErrors."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

from sandbox_agent_ipc.messages import FunctionRef
from sandbox_agent_ipc.token import Cancelled

from sandbox_agent_sandbox.errors import SandboxError

MAIN = "__sandbox_agent_main__"
"""The module name of the script that the user runs, so that its code under
`if __name__ == "__main__"` does not run again. multiprocessing's spawn does the same."""


class LoadError(SandboxError):
    """A tool's function cannot be imported: which one, what was raised, and where."""


def load(reference: FunctionRef) -> Callable[..., Any]:
    """Import a tool's function, from installed packages or from the working folder. When both have
    a module of one name, it comes from the installed packages; see `_arrange_path`.

    Raises LoadError, and Cancelled when SIGTERM arrives meanwhile.
    """
    shown = f"{reference.file or reference.module}:{reference.qualname}"
    if "<" in reference.qualname:
        raise LoadError(
            f"tool {shown} is defined inside a function, so a worker cannot import it; "
            "move it to the top level of its module"
        )
    try:
        if reference.file is not None:
            module = _script(reference.file)
        else:
            _arrange_path()
            module = importlib.import_module(reference.module)
    except Cancelled:
        raise
    except ModuleNotFoundError as error:
        raise LoadError(
            f"tool {shown} cannot be imported: there is no module {error.name!r}{_where(error)}; "
            "a worker finds modules in the installed packages and in the workspace"
            f"{_hidden(error.name or reference.module)}"
        ) from error
    except BaseException as error:  # also SystemExit, of a script that does not guard its main part
        guard = ""
        if reference.file is not None:
            guard = "; put what the script runs under `if __name__ == '__main__':`"
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        raise LoadError(f"tool {shown} cannot be imported: {what}{_where(error)}{guard}") from error
    owner: Any = None
    found: Any = module
    for name in reference.qualname.split("."):
        try:
            owner, found = found, getattr(found, name)
        except AttributeError as error:
            from sandbox_agent_sandbox.nearest import did_you_mean

            guess = did_you_mean(name, map(str, dir(found))) or "check the name after the colon"
            raise LoadError(
                f"tool {shown} cannot be found: {error}; {guess}{_hidden(reference.module)}"
            ) from error
    if not callable(found):
        raise LoadError(f"tool {shown} is a {type(found).__name__}, not a function")
    if isinstance(owner, type) and _needs_object(owner, name):
        raise LoadError(
            f"tool {shown} is a method of {owner.__name__} and needs an object of that class; "
            "name a function that makes the object, or a static method"
        )
    function: Callable[..., Any] = found
    return function


def _needs_object(owner: type, name: str) -> bool:
    """Whether this is a method, its own or inherited, in Python or in C: its first parameter is an
    object, which no model can give."""
    import inspect  # here: few tools are attributes of a class

    plain = inspect.getattr_static(owner, name, None)
    return inspect.isfunction(plain) or (
        inspect.ismethoddescriptor(plain)
        and not isinstance(plain, staticmethod | classmethod | _CLASS_METHOD)
    )


_CLASS_METHOD = type(dict.__dict__["fromkeys"])
"""Of a class method in C."""


def _script(file: str) -> ModuleType:
    known = sys.modules.get(MAIN)
    if known is not None:
        return known
    # Compiled here, not by an importer, which would leave a __pycache__ beside the script.
    with open(file, "rb") as source:
        code = compile(source.read(), file, "exec")
    _arrange_path(os.path.dirname(file))  # the script's own imports come from there
    module = ModuleType(MAIN)
    module.__file__ = file
    sys.modules[MAIN] = module  # before it runs: dataclasses look up their module
    try:
        exec(code, module.__dict__)
    except BaseException:
        del sys.modules[MAIN]
        raise
    return module


def _arrange_path(script_folder: str | None = None) -> None:
    """Put the folders that modules come from into their order, in `sys.path`.

    First the standard library, then installed packages and our own, then the folder of the user's
    script, then the workspace. So no file that a tool can write hides a module of the first two:
    neither `queue.py` nor `msgspec.py` of a workspace is imported in place of theirs.
    """
    last = [] if script_folder is None else [script_folder]
    with suppress(FileNotFoundError):
        # Without the folder, a tool that needs it reports that better than an import.
        last.append(os.getcwd())
    others = [entry for entry in sys.path if entry not in last]
    standard = [entry for entry in others if _is_standard(entry)]
    installed = [entry for entry in others if entry not in standard]
    sys.path[:] = [*standard, *installed, *dict.fromkeys(last)]


def _is_standard(entry: str) -> bool:
    """Whether this is a folder of the standard library, its zip file, or its `lib-dynload`."""
    library = os.path.dirname(os.__file__)
    archive = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    return (
        entry == library
        or os.path.basename(entry) == "lib-dynload"
        or entry == os.path.join(os.path.dirname(library), archive)
    )


def _hidden(name: str) -> str:
    """A hint for a module of the workspace that another one of the same name hides, or ""."""
    top = name.partition(".")[0]
    found = sys.modules.get(top)
    origin = getattr(found, "__file__", None) or getattr(found, "__name__", "")
    for folder in (entry for entry in sys.path[-2:] if not _is_standard(entry)):
        for path in (os.path.join(folder, f"{top}.py"), os.path.join(folder, top)):
            if os.path.exists(path) and found is not None and not str(origin).startswith(path):
                return (
                    f"; {path} is not imported, because {top} of {origin} comes first: "
                    "give it another name"
                )
    return ""


def _where(error: BaseException) -> str:
    """The place in the user's files where an import failed, e.g. ` (tools.py, line 3)`, or ""."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [f for f in frames if f.filename != __file__ and not _is_import_machinery(f.filename)]
    return f" ({outside[-1].filename}, line {outside[-1].lineno})" if outside else ""


def _is_import_machinery(file: str) -> bool:
    return file.startswith("<frozen importlib") or file == importlib.__file__
