"""A spawner that is a fork of the command, and not a program of its own.

Its memory is the command's. What the command was started with is forgotten before anything else:
the environment, where the user's keys are, and the arguments. No process behind the walls has them.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from typing import Any, NoReturn

from sandbox_agent_sandbox.import_roots import import_roots

_PR_SET_PDEATHSIG = 1
_FINDERS: tuple[Any, ...] = (BuiltinImporter, FrozenImporter, PathFinder)
_NAME = b"sandbox-spawner"


def be_spawner(control: int, host: int, words: tuple[int, int, int]) -> NoReturn:
    """Become the spawner of a sandbox for one call. control: its end of the control socket. host: a
    pidfd of the command. words: the addresses of its arguments, of their end, and of the end of its
    environment."""
    # First: until then this process would outlive the command.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    death = select.poll()
    death.register(host, select.POLLIN)
    if death.poll(0):
        os._exit(0)
    _forget(*words)
    os.chdir("/")
    _import_as_isolated()
    from sandbox_agent_sandbox.put_off import import_traceback

    import_traceback()
    from sandbox_agent_sandbox.host.spawner.run import build
    from sandbox_agent_sandbox.inside.prepare import prepare_command

    build(control, host, prepare_command)


def _import_as_isolated() -> None:
    """From now on modules come from where a new Python would find them with `-I -S`, and no hook of
    the host's environment sees it."""
    python = os.path.dirname(os.__file__)
    sys.path[:] = [
        *import_roots(),
        *(
            entry
            for entry in sys.path
            if f"{entry}/".startswith(f"{python}/")
            and not entry.endswith(("site-packages", "dist-packages"))
        ),
    ]
    sys.meta_path[:] = [one for one in sys.meta_path if one in _FINDERS]
    sys.settrace(None)
    sys.setprofile(None)


def _forget(begin: int, end: int, last: int) -> None:
    """Overwrite the environment and the arguments, also where the kernel shows them to others
    (/proc/PID/environ and cmdline), and what Python has made of them."""
    words = [*os.environ._data.items()]  # type: ignore[attr-defined]
    os.environ.clear()  # and that of the C library
    for pair in words:
        for word in pair:
            _overwrite(word)
    ctypes.memset(begin, 0, last - begin)
    ctypes.memmove(begin, _NAME, min(len(_NAME), end - begin - 1))
    sys.argv[:] = sys.orig_argv[:] = [""]


def _overwrite(word: bytes) -> None:
    """The bytes of an object of CPython. One of a single byte is shared by all that have it."""
    if len(word) > 1:
        ctypes.memset(id(word) + bytes.__basicsize__ - 1, 0, len(word))
