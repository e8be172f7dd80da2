"""Which modules the host may import from the folder that Python puts first in `sys.path`.

That is the folder of the script, or the current one (`python -m`, `python -c`, a notebook), and it
may be a workspace: a tool may have written a module there with the name of one of Python's, or of a
package that sandbox-agent uses. So from the moment at which this module is imported, such a folder
gives nothing but the user's own modules: those that the user's code imports, and that neither
Python nor an installed package has. What Python imported before that moment was not looked at;
`names_before` says what it was.

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

_before = tuple(sys.modules)
_guarded: "list[str]" = []
_left_out: "dict[str, str]" = {}


def names_before() -> "frozenset[str]":
    """The modules that a file of the same name in such a folder would replace: Python's, those that
    were imported before ours, and ours."""
    names = {name.partition(".")[0] for name in _before}
    return frozenset(names | sys.stdlib_module_names | {"sandbox_agent", "sitecustomize"})


def guarded_folders() -> "tuple[str, ...]":
    """The folders that are guarded, without links."""
    return tuple(_guarded)


def take_left_out() -> "list[str]":
    """The files that were not imported since this was last asked."""
    files = list(_left_out.values())
    _left_out.clear()
    return files


def guard() -> None:
    """Guard the folder of the script, or the current one. Not in `python -P` and `-I`, where it is
    not in `sys.path`, and not where sandbox-agent itself is in that folder."""
    if sys.flags.safe_path or _guarded:
        return
    main = sys.modules.get("__main__")
    script = None if getattr(main, "__spec__", None) else getattr(main, "__file__", None)
    try:
        folder = os.path.dirname(os.path.realpath(script)) if script else os.getcwd()
    except OSError:  # the current folder was removed
        return
    own = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    if folder == own or not os.path.isdir(folder):
        return
    _guarded.append(folder)
    # Python asks for a finder by the path as it stands in sys.path.
    for entry in [folder, *(one for one in sys.path if one and os.path.realpath(one) == folder)]:
        sys.path_importer_cache[entry] = _Guarded(entry, *_get_supported_file_loaders())


class _Guarded(FileFinder):
    """Finds the user's own modules in a folder, and no others."""

    def find_spec(self, fullname, target=None):  # type: ignore[no-untyped-def]
        spec = super().find_spec(fullname, target)
        if spec is None or fullname in _OURS:
            return spec
        if (
            fullname in sys.stdlib_module_names
            or _for_us(self.path)
            or _is_elsewhere(fullname, self.path)
        ):
            _left_out[fullname] = spec.origin or f"{self.path}/{fullname}"
            return None
        return spec


def _for_us(folder: str) -> bool:
    """Whether it is our code that needs the module, or a package that our code is importing."""
    frame = sys._getframe(2)
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name.partition(".")[0] in _OURS:
            return True
        if name == "__main__" or frame.f_code.co_filename.startswith(f"{folder}/"):
            return False
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _is_elsewhere(name: str, folder: str) -> bool:
    """Whether a module is installed, so that a file here would hide it."""
    others = [entry for entry in sys.path if os.path.realpath(entry) != os.path.realpath(folder)]
    if PathFinder.find_spec(name, others) is not None:
        return True
    return any(
        finder.find_spec(name, None) is not None
        for finder in sys.meta_path
        if finder is not PathFinder and hasattr(finder, "find_spec")
    )
