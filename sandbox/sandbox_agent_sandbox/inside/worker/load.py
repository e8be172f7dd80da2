"""From a FunctionRef to the function. It runs users' code, and its errors become LoadErrors."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
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
    """Import a tool's function, from installed packages or from the working folder.

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
            _add_working_folder()
            module = importlib.import_module(reference.module)
    except Cancelled:
        raise
    except ModuleNotFoundError as error:
        raise LoadError(
            f"tool {shown} cannot be imported: there is no module {error.name!r}{_where(error)}; "
            "a worker finds modules in the installed packages and in the workspace"
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
            raise LoadError(
                f"tool {shown} cannot be found: {error}; check the name after the colon"
            ) from error
    if not callable(found):
        raise LoadError(f"tool {shown} is a {type(found).__name__}, not a function")
    if inspect.isfunction(found) and isinstance(owner, type) and vars(owner).get(name) is found:
        raise LoadError(
            f"tool {shown} is a method of {owner.__name__} and needs an object of that class; "
            "name a function that makes the object, or a static method"
        )
    function: Callable[..., Any] = found
    return function


def _script(file: str) -> ModuleType:
    known = sys.modules.get(MAIN)
    if known is not None:
        return known
    # Compiled here, not by an importer, which would leave a __pycache__ beside the script.
    code = compile(Path(file).read_bytes(), file, "exec")
    folder = os.path.dirname(file)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # the script's own imports come from there
    module = ModuleType(MAIN)
    module.__file__ = file
    sys.modules[MAIN] = module  # before it runs: dataclasses look up their module
    try:
        exec(code, module.__dict__)
    except BaseException:
        del sys.modules[MAIN]
        raise
    return module


def _add_working_folder() -> None:
    """Put the working folder on the path: before installed packages, so that a project's own
    version wins, and after the standard library, so that its `queue.py` does not hide ours.
    """
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        return  # removed meanwhile; a tool that needs it reports that better than an import
    if folder not in sys.path:
        packages = ("site-packages", "dist-packages")
        places = (i for i, entry in enumerate(sys.path) if entry.endswith(packages))
        sys.path.insert(next(places, len(sys.path)), folder)


def _where(error: BaseException) -> str:
    """The place in the user's files where an import failed, e.g. ` (tools.py, line 3)`, or ""."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [f for f in frames if f.filename != __file__ and not _is_import_machinery(f.filename)]
    return f" ({outside[-1].filename}, line {outside[-1].lineno})" if outside else ""


def _is_import_machinery(file: str) -> bool:
    return file.startswith("<frozen importlib") or file == importlib.__file__
