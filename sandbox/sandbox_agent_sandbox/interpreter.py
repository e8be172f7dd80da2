"""The Python that sandboxes, and what is tried on this host, are started with."""

from __future__ import annotations

import os
import sys


def interpreter() -> str:
    """The Python that sandboxes are started with: this process's own.

    `sys.executable` is not Python where a program is frozen (PyInstaller) or embeds the interpreter
    (uwsgi): whatever its arguments, it would start its own main program again. Then the
    interpreter of the installation that this process uses is taken, if there is one.

    Raises SandboxUnavailable where there is none. It starts nothing to find out.
    """
    given = sys.executable or ""
    if not getattr(sys, "frozen", False) and _is_python(given) and is_program(given):
        return os.path.abspath(given)
    # Here, because a command asks before it imports anything.
    from sandbox_agent_sandbox.errors import SandboxUnavailable

    if getattr(sys, "frozen", False):
        raise SandboxUnavailable(
            f"this program is frozen: sys.executable is {given!r}, which is not Python, and"
            " sandboxes are started with Python; hint: install sandbox-agent-runtime and the"
            " program into an environment (pip), and run it with that Python"
        )
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for prefix in dict.fromkeys((sys.prefix, sys.exec_prefix, sys.base_prefix)):
        if is_program(candidate := f"{prefix}/bin/{version}"):
            return candidate
    raise SandboxUnavailable(
        f"there is no Python to start sandboxes with: sys.executable is {given!r}, and"
        f" {sys.base_prefix}/bin has no {version}; hint: set sys.executable to the path of a"
        f" Python {sys.version_info.major}.{sys.version_info.minor}"
    )


def is_program(path: str) -> bool:
    """Whether it is a file that may be executed."""
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _is_python(path: str) -> bool:
    """By its name, as in python, python3.11, python3.13t, pypy3, python3-dbg."""
    name = os.path.basename(path).lower().removesuffix(".exe")
    for language in ("python", "pypy", "graalpy"):
        if name.startswith(language):
            version, dash, build = name.removeprefix(language).partition("-")
            letters = version.lstrip("0123456789.")
            return (not letters or letters.isalpha()) and (not dash or build.isalnum())
    return False


_SETPRIV = "/usr/bin/setpriv"
"""Of util-linux. It sets the parent-death signal some 15 ms before a new Python can."""

_prefix: tuple[str, ...] | None = None


def parent_death_prefix() -> tuple[str, ...]:
    """The command prefix that sets the parent-death signal, where this host has it. setpriv(1)"""
    global _prefix
    if _prefix is None:
        try:
            with open(_SETPRIV, "rb") as file:
                able = b"pdeathsig" in file.read()  # since util-linux 2.33
        except OSError:
            able = False
        _prefix = (_SETPRIV, "--pdeathsig", "KILL", "--") if able else ()
    return _prefix
