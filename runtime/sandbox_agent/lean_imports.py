"""Imports without what they draw in and a command does not use."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from sandbox_agent_sandbox.put_off import (
    Names,
    import_msgspec,
    late_expressions,
    put_off,
    stand_in,
)

_METADATA = "importlib.metadata"

_OF_ARGPARSE: Mapping[str, Names] = {
    # Our messages are English. Python has no translations of argparse's.
    "gettext": {
        "gettext": lambda message: message,
        "ngettext": lambda one, many, count: one if count == 1 else many,
    },
}
_OF_PATHLIB: Mapping[str, Names] = {
    # For paths of Windows, and for Path.as_uri.
    "ntpath": {},
    "urllib.parse": {"quote_from_bytes": None},
}
_OF_PYDANTIC: Mapping[str, Names] = {
    # To compare secrets. It draws in hashlib, and that OpenSSL's library: 4 MB.
    "secrets": {},
}
_OF_ASYNCIO: Mapping[str, Names] = {
    # For TLS. A command has no connections: providers are asked by a process of their own.
    "ssl": {},
    "asyncio.sslproto": {},
    # For subprocesses that speak text.
    "locale": {},
}


def import_argparse() -> None:
    """Import argparse without gettext, which looks for translations and imports locale for that."""
    with put_off(_OF_ARGPARSE):
        import argparse  # noqa: F401


def import_for_exec() -> None:
    """Import what `exec` needs of msgspec and pathlib."""
    import_msgspec()
    with put_off(_OF_PATHLIB):
        import pathlib  # noqa: F401


def import_for_run() -> None:
    """Import what `run` and `resume` need of msgspec, pathlib, pydantic and asyncio."""
    import_msgspec()
    with put_off(_OF_PATHLIB):
        import pathlib  # noqa: F401
    with put_off(_OF_PYDANTIC):
        import pydantic.types  # noqa: F401
    with put_off(_OF_ASYNCIO):
        import asyncio  # noqa: F401
    with late_expressions():
        import yaml  # noqa: F401


def put_off_metadata() -> None:
    """Have importlib.metadata imported when something of it is called.

    pydantic imports it for its plugins, also where they are turned off. With the packages email and
    zipfile, which it draws in, that is a tenth of a command's start.
    """
    if _METADATA not in sys.modules:
        sys.modules[_METADATA] = stand_in(_METADATA, {"entry_points": None})
