"""The environment and the streams of a worker, which it inherits for the most part."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

_taken: Mapping[str, str] | None = None
"""What `os.environ` holds, where this module has set it."""


def take_environment(wanted: Mapping[str, str]) -> None:
    """Have these variables and no others. Raises ValueError for what no environment can hold.

    Before that of a call, init takes that of the plan, and the workers inherit it. So there is
    little left to change: each variable takes a putenv(3).
    """
    global _taken
    known, _taken = _taken, None  # unknown, should this fail half-way
    if known is None:
        os.environ.clear()
        os.environ.update(wanted)
    else:
        for name in known.keys() - wanted.keys():
            del os.environ[name]
        for name, value in wanted.items():
            if known.get(name) != value:
                os.environ[name] = value
    _taken = wanted


_made: list[bool] = []


def make_streams() -> None:
    """Make standard output and error as a new process has them whose output goes to pipes.

    They are made once, in the process that workers come from, and write to whatever a worker has
    at 1 and 2. Raises OSError if no descriptor is left: then each worker makes its own.
    """
    if _made:
        return
    pipe = os.pipe()
    saved: list[int] = []
    try:
        saved += [os.dup(1)]
        saved += [os.dup(2)]
        try:
            os.dup2(pipe[1], 1)
            os.dup2(pipe[1], 2)
            _open()
        finally:
            for number, fd in enumerate(saved, 1):
                os.dup2(fd, number)
    finally:
        for fd in (*pipe, *saved):
            os.close(fd)
    _made.append(True)


def have_streams() -> None:
    """For a worker: make them, if that has not been done."""
    if not _made:
        _open()


def _open() -> None:
    # Line buffered: what a tool has printed must have left the process when SIGKILL comes.
    sys.stdout = open(1, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    # Typed as constants. The old ones would never be flushed.
    vars(sys).update(__stdout__=sys.stdout, __stderr__=sys.stderr)
