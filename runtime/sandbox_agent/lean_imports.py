"""Imports without what they draw in and a command does not use."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

_METADATA = "importlib.metadata"


def import_msgspec() -> None:
    """Import msgspec, unless that is done, and not typing_extensions.

    msgspec asks that package, where it is installed, for functions that Python 3.11 has itself. Its
    import takes as long as msgspec's own. What needs it later, such as pydantic, imports it then.
    """
    if "msgspec" in sys.modules or "typing_extensions" in sys.modules:
        return
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # "there is none"
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules["typing_extensions"]


def put_off_metadata() -> None:
    """Have importlib.metadata imported when something of it is called.

    pydantic imports it for its plugins, also where they are turned off. With the packages email and
    zipfile, which it draws in, that is a tenth of a command's start.
    """
    if _METADATA in sys.modules:
        return
    module = ModuleType(_METADATA)

    def find(name: str) -> Any:
        if name.startswith("__"):  # what the import system asks of every module
            raise AttributeError(name)
        if sys.modules.get(_METADATA) is module:
            del sys.modules[_METADATA]
        import importlib.metadata as real

        return getattr(real, name)

    def entry_points(**parameters: Any) -> Any:
        return find("entry_points")(**parameters)

    module.__dict__.update(__getattr__=find, entry_points=entry_points)
    sys.modules[_METADATA] = module
