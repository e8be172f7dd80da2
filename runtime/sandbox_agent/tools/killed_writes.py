"""Removing the temporary file of a `write_file` or `edit_file` call that was killed.

The file has its name only for the moment of a rename, so it is rarely left. It lies in the folder
that the call names. Tools may have put links there, so the way to that folder is walked without
following any: nothing outside the folders that tools can write is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from sandbox_agent_ipc.messages import FunctionRef
from sandbox_agent_sandbox.outcome import Outcome
from sandbox_agent_sandbox.temporary_files import remove_leftovers

from sandbox_agent.tools.built_in import BUILT_IN

_WRITERS = {"write_file", "edit_file"}
_FUNCTIONS = {function for function in BUILT_IN["files"] if function.qualname in _WRITERS}

_WHOLE = {Outcome.OK, Outcome.ERROR, Outcome.SKIPPED, Outcome.DENIED}
"""Outcomes of calls that ended by themselves, or did not begin."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_leftover(
    function: FunctionRef, outcome: Outcome, path: object, workspace: str, writable: Iterable[str]
) -> None:
    """Remove what a call has left, if it may have left something.

    function, outcome: of the call. path: its argument, from a model. writable: the real paths of
    the folders that tools can write. What cannot be removed stays.
    """
    if function in _FUNCTIONS and outcome not in _WHOLE and isinstance(path, str):
        with suppress(OSError, ValueError):  # ValueError: a NUL byte
            _clean(os.path.realpath(os.path.join(workspace, path)), writable)


def _clean(path: str, writable: Iterable[str]) -> None:
    folder = os.path.dirname(path)
    roots = [root for root in writable if f"{folder}/".startswith(root.rstrip("/") + "/")]
    if not roots:
        return
    root = max(roots, key=len)
    fd = os.open(root, _FOLDER)
    try:
        for name in os.path.relpath(folder, root).split("/"):
            below = os.open(name, _FOLDER, dir_fd=fd)
            os.close(fd)
            fd = below
        remove_leftovers(fd)
    finally:
        os.close(fd)
