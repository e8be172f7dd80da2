"""From a FunctionRef to the function. This runs users' code: whatever it does becomes LoadError."""

from __future__ import annotations

import importlib
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
"""The name under which the script that is being run is imported, so that what it guards by
`if __name__ == "__main__"` does not run again. multiprocessing's spawn does the same."""


class LoadError(SandboxError):
    """A tool's function cannot be imported. Says which, what was raised and where."""


def load(reference: FunctionRef) -> Callable[..., Any]:
    """Import a tool's function; modules of the working folder are found too.

    Raises LoadError, and Cancelled when SIGTERM came meanwhile.
    """
    shown = f"{reference.file or reference.module}:{reference.qualname}"
    if "<" in reference.qualname:
        raise LoadError(
            f"tool {shown} is made inside a function and cannot be imported by a worker; "
            "move it to the top of its module"
        )
    try:
        if reference.file is not None:
            module = _script(reference.file)
        else:
            _see_working_folder()
            module = importlib.import_module(reference.module)
    except Cancelled:
        raise
    except ModuleNotFoundError as error:
        raise LoadError(
            f"tool {shown} cannot be imported: there is no module {error.name!r}{_where(error)}; "
            "modules are looked for among the installed packages and in the workspace"
        ) from error
    except BaseException as error:  # SystemExit of a script that does not guard its main part, too
        guard = ""
        if reference.file is not None:
            guard = "; what the script runs belongs under `if __name__ == '__main__':`"
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        raise LoadError(f"tool {shown} cannot be imported: {what}{_where(error)}{guard}") from error
    found: Any = module
    for name in reference.qualname.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise LoadError(
                f"tool {shown} cannot be found: {error}; check the name after the colon"
            ) from error
    if not callable(found):
        raise LoadError(f"tool {shown} is a {type(found).__name__}, not a function")
    function: Callable[..., Any] = found
    return function


def _script(file: str) -> ModuleType:
    known = sys.modules.get(MAIN)
    if known is not None:
        return known
    # Compiled here rather than by an importer, which would leave a __pycache__ beside the script.
    code = compile(Path(file).read_bytes(), file, "exec")
    folder = os.path.dirname(file)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # where the script's own imports were found
    module = ModuleType(MAIN)
    module.__file__ = file
    sys.modules[MAIN] = module  # before it runs: dataclasses look their module up
    try:
        exec(code, module.__dict__)
    except BaseException:
        del sys.modules[MAIN]
        raise
    return module


def _see_working_folder() -> None:
    """Put the working folder on the path: before installed packages, so that a project's own
    version wins, and after the standard library, which its `queue.py` must not hide from us.
    """
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        return  # removed meanwhile; a tool that needs it says so better than an import could
    if folder not in sys.path:
        packages = ("site-packages", "dist-packages")
        places = (i for i, entry in enumerate(sys.path) if entry.endswith(packages))
        sys.path.insert(next(places, len(sys.path)), folder)


def _where(error: BaseException) -> str:
    """Where in the user's files an import failed, e.g. ` (tools.py, line 3)`; else nothing."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [f for f in frames if f.filename != __file__ and not _is_import_machinery(f.filename)]
    return f" ({outside[-1].filename}, line {outside[-1].lineno})" if outside else ""


def _is_import_machinery(file: str) -> bool:
    return file.startswith("<frozen importlib") or file == importlib.__file__
