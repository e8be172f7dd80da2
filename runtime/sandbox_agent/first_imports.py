"""Which modules the host may import from the folder that Python puts first in `sys.path`.

That is the folder of the script, or the current one (`python -m`, `python -c`, a notebook), and it
may be a workspace: a tool may have written a module there with the name of one of Python's, or of a
package that sandbox-agent uses. So from the moment at which this module is imported, such a folder
gives nothing but the user's own modules: those that the user's code imports, and that neither
Python nor an installed package has. The same holds for the other folders of `sys.path` that are no
place of installed packages: those of PYTHONPATH, and projects that are installed to be edited.
What Python imported before that moment was not looked at; `names_before` says what it was.

This module imports nothing that is not loaded already: even `__future__` could come from there.
"""

import os
import sys
from _frozen_importlib_external import (  # type: ignore[attr-defined]
    FileFinder,
    PathFinder,
    _get_supported_file_loaders,
)

_OURS = ("sandbox_agent", "sandbox_agent_ipc", "sandbox_agent_sandbox")
_NEEDED = frozenset(
    (
        *("msgspec", "psutil", "pydantic", "pydantic_core", "annotated_types", "yaml", "rich"),
        *("typing_extensions", "typing_inspection", "jinja2", "markupsafe", "litellm"),
        *("pygments", "markdown_it", "mdurl"),
    )
)
"""Packages that sandbox-agent cannot do without. Where one is installed nowhere, the user may be
working on it."""
_INSTALLED = ("site-packages", "dist-packages")

_own = os.path.dirname(os.path.dirname(__file__))
_WHERE_WE_ARE = tuple(
    place
    for own in (_own, os.path.realpath(_own))
    for place in (own, f"{os.path.dirname(own)}/ipc", f"{os.path.dirname(own)}/sandbox")
)
_python = os.path.dirname(os.__file__)
_WHERE_PYTHON_IS = (f"{_python}/", f"{os.path.realpath(_python)}/")

_before = tuple(sys.modules)
_guarded: "list[str]" = []
_tools: "list[str]" = []
"""Folders that tools may write: what lies below them gives our own code nothing."""
_left_out: "dict[str, str]" = {}


def names_before() -> "frozenset[str]":
    """The modules that a file of the same name in such a folder would replace: Python's, those that
    were imported before ours, and ours."""
    names = {name.partition(".")[0] for name in _before}
    own = {"sandbox_agent", "sitecustomize", "usercustomize"}
    return frozenset(names | sys.stdlib_module_names | own)


def guarded_folders() -> "tuple[str, ...]":
    """The folders that are guarded, without links."""
    return tuple(_guarded)


def take_left_out() -> "list[str]":
    """The files that were not imported since this was last asked."""
    files = list(_left_out.values())
    _left_out.clear()
    return files


def guard(*, first: bool = True) -> None:
    """Guard the folders of `sys.path` that are no place of installed packages.

    first: whether the folder of the script, or the current one, is among them. It is not in
    `python -P` and `-I`.
    """
    if _guarded:
        return
    try:
        here = os.getcwd()
    except OSError:  # the current folder was removed
        here = ""
    if here and here != "/":
        _tools.append(here)
    main = sys.modules.get("__main__")
    script = None if getattr(main, "__spec__", None) else getattr(main, "__file__", None)
    folder = os.path.dirname(os.path.realpath(script)) if script else here
    # realpath takes longer than all else here, so it is asked only where the name is not known.
    entries = [(one, os.path.realpath(one)) for one in sys.path if one and not _is_known(one)]
    if first and folder and not sys.flags.safe_path and _is_guarded(folder):
        _tools.append(folder)
        _guard(folder, entries)
    if not getattr(sys, "frozen", False):
        for _, real in entries:
            if real not in _guarded and _is_guarded(real):
                _guard(real, entries)


def guard_below(folders: "list[str]") -> None:
    """From now on, our own code imports nothing from below these folders, which tools can write.
    folders: real paths."""
    _tools.extend(folders)


def _is_guarded(folder: str) -> bool:
    """Whether a folder may be the user's, and not one where Python, packages or we are."""
    return not _is_known(folder) and os.path.isdir(folder)


def _is_known(folder: str) -> bool:
    """Whether Python, packages or we are in a folder, by its name."""
    return (
        os.path.basename(folder) in _INSTALLED
        or folder in _WHERE_WE_ARE
        or f"{folder}/".startswith(_WHERE_PYTHON_IS)
    )


def _guard(folder: str, entries: "list[tuple[str, str]]") -> None:
    """entries: of sys.path, each with its real path."""
    _guarded.append(folder)
    # Python asks for a finder by the path as it stands in sys.path.
    for entry in [folder, *(one for one, real in entries if real == folder)]:
        sys.path_importer_cache[entry] = _Guarded(entry, *_get_supported_file_loaders())


class _Guarded(FileFinder):
    """Finds the user's own modules in a folder, and no others."""

    def find_spec(self, fullname, target=None):  # type: ignore[no-untyped-def]
        spec = super().find_spec(fullname, target)
        if spec is None:
            return None
        elsewhere = _is_elsewhere(fullname)
        alone = fullname in _NEEDED and not elsewhere and self.path not in _tools
        if (
            fullname in sys.stdlib_module_names
            or elsewhere
            or (_is_below_any(self.path, _tools) and _for_us() and not alone)
        ):
            _left_out[fullname] = spec.origin or f"{self.path}/{fullname}"
            return None
        return spec


def _is_below_any(path: str, folders: "list[str]") -> bool:
    real = os.path.realpath(path)
    return any(f"{real}/".startswith(f"{folder}/") for folder in folders)


def _for_us() -> bool:
    """Whether it is our code that needs the module, or a package that our code is importing."""
    frame = sys._getframe(2)
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name.partition(".")[0] in _OURS:
            return True
        if name == "__main__" or _is_below_any(frame.f_code.co_filename, _guarded):
            return False
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _is_elsewhere(name: str) -> bool:
    """Whether a module is installed, so that a file here would hide it."""
    others = [entry for entry in sys.path if os.path.realpath(entry) not in _guarded]
    if PathFinder.find_spec(name, others) is not None:
        return True
    return any(
        finder.find_spec(name, None) is not None
        for finder in sys.meta_path
        if finder is not PathFinder and hasattr(finder, "find_spec")
    )
