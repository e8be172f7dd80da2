"""What hardly a program uses, put off until it is used: modules that others import, and regular
expressions.

A module that is put off has a stand-in for as long as another one is imported. The stand-in is the
real module for who got hold of it: the first use of a name imports it. Who imports the module
afterwards gets the real one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import re

Names = Mapping[str, Callable[..., Any] | None]
"""The functions that others take from a module while they are imported. None: the real one is
called, which imports the module."""

_OF_MSGSPEC: Mapping[str, Names] = {
    # msgspec imports `uuid`, which wants to know the system, and compiles ten expressions for it.
    "platform": {"system": lambda: os.uname().sysname},
    # These two describe types, for schemas.
    "msgspec.inspect": {},
    "msgspec._json_schema": {"schema": None, "schema_components": None},
}

_OF_SOCKET: Mapping[str, Names] = {"selectors": {}}  # to send a file where sendfile(2) cannot

_OF_TRACEBACK: Mapping[str, Names] = {"textwrap": {}}  # for groups of exceptions


class LateExpression:
    """A regular expression that is compiled when it is first used. text, flags: as of re.compile,
    whose errors that use raises.

    Compiling one takes some 0.1 ms, and a command uses few of those of the modules it imports.
    """

    def __init__(self, text: str, flags: int) -> None:
        self.pattern = text
        self.flags = flags

    def __getattr__(self, name: str) -> Any:
        import re

        found = getattr(re.compile(self.pattern, self.flags), name)
        # From now on it is found here, without a call of this function.
        self.__dict__[name] = found
        return found


def expression(text: str, flags: int = 0) -> re.Pattern[str]:
    """`text` as a regular expression, see LateExpression. For its methods and attributes: functions
    of `re` do not take it."""
    return cast("re.Pattern[str]", LateExpression(text, flags))


@contextmanager
def late_expressions() -> Iterator[None]:
    """What is imported in this block for the first time compiles a regular expression when it uses
    it first: it has a copy of `re` whose `compile` is `expression`."""
    import re

    copy = ModuleType("re")
    copy.__dict__.update(vars(re), compile=expression)
    sys.modules["re"] = copy
    try:
        yield
    finally:
        sys.modules["re"] = re


def stand_in(name: str, names: Names) -> ModuleType:
    """A module that imports the one of this name when something of it is used. names: see Names."""
    module = ModuleType(name)

    def find(attribute: str) -> Any:
        if attribute.startswith("__"):  # what the import system asks of every module
            raise AttributeError(attribute)
        if sys.modules.get(name) is module:
            del sys.modules[name]
        __import__(name)
        return getattr(sys.modules[name], attribute)

    def late(attribute: str) -> Callable[..., Any]:
        return lambda *arguments, **named: find(attribute)(*arguments, **named)

    module.__dict__.update({one: known or late(one) for one, known in names.items()})
    module.__dict__["__getattr__"] = find
    return module


@contextmanager
def put_off(modules: Mapping[str, Names]) -> Iterator[None]:
    """What is imported in this block gets a stand-in of each of these modules that has not been
    imported before."""
    placed = {
        name: stand_in(name, names) for name, names in modules.items() if name not in sys.modules
    }
    sys.modules.update(placed)
    try:
        yield
    finally:
        for name, module in placed.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def import_msgspec() -> None:
    """Import msgspec, unless that is done, with little but itself.

    It asks typing_extensions, where that is installed, for functions that Python 3.11 has itself.
    That import takes as long as msgspec's own. What needs it later, such as pydantic, imports it
    then.
    """
    if "msgspec" in sys.modules:
        return
    known = "typing_extensions" in sys.modules
    if not known:
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # "there is none"
    try:
        with put_off(_OF_MSGSPEC):
            import msgspec  # noqa: F401
    finally:
        if not known:
            del sys.modules["typing_extensions"]


def import_socket() -> None:
    """Import socket without selectors, which makes five classes."""
    with put_off(_OF_SOCKET):
        import socket  # noqa: F401


def import_traceback() -> None:
    """Import traceback without textwrap, which compiles five expressions."""
    with put_off(_OF_TRACEBACK):
        import traceback  # noqa: F401
