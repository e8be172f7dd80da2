"""Temporary files beside the files that tools write: their names, and taking away what was left.

A file tool gives its temporary file a name only for the moment of the rename, and holds a lock on
it (flock(2)). SIGKILL in that moment leaves the file. So a file with such a name and without a lock
is what a killed tool has left. Both sides of the walls import this.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from contextlib import suppress

from sandbox_agent_sandbox.put_off import expression

_PREFIX = ".tmp-sandbox-agent-"
_NAME = expression(re.escape(_PREFIX) + "[0-9a-f]{16}")

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC


def new_name() -> str:
    """A name that no other file has."""
    return _PREFIX + os.urandom(8).hex()


def remove_leftovers(folder: int) -> int:
    """Remove the temporary files in a folder that no tool is writing. Returns how many.

    folder: a descriptor, open for reading. What cannot be removed stays.
    """
    removed = 0
    for name in os.listdir(folder):
        if _NAME.fullmatch(name):
            with suppress(OSError):
                removed += _remove(folder, name)
    return removed


def _remove(folder: int, name: str) -> bool:
    # Looked at before it is opened: a tool may have put a FIFO or a device there.
    if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        return False
    fd = os.open(name, _READ, dir_fd=folder)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=folder)
    finally:
        os.close(fd)
    return True
