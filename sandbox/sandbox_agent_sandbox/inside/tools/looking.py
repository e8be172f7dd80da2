"""What `doctor --why PATH` asks inside: what a tool can do with a path."""

from __future__ import annotations

import errno
import os
import stat

_QUIET = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def look_at(path: str, opens: bool = False) -> dict[str, bool]:
    """What a tool can do with a path.

    opens: whether Landlock is the view. It lets access(2) and stat(2) pass, so files and folders
    are opened then, and nothing else: to open a device or a pipe may do something. landlock(7)
    """
    ways = {"exists": os.F_OK, "read": os.R_OK, "write": os.W_OK, "execute": os.X_OK}
    found = {name: os.access(path, way) for name, way in ways.items()}
    mode = os.stat(path).st_mode if opens and found["exists"] else 0
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        found["read"] &= _can_open(path, os.O_RDONLY)
        found["execute"] &= found["read"]  # its rules give both together
        # In a folder: a file without a name, which is gone when it is closed. open(2)
        found["write"] &= _can_open(path, os.O_WRONLY | (os.O_TMPFILE if stat.S_ISDIR(mode) else 0))
    return found


def _can_open(path: str, flags: int) -> bool:
    try:
        os.close(os.open(path, flags | _QUIET, 0o600))
    except OSError as error:
        # A program that runs (ETXTBSY), or a file system that has no such files, says nothing.
        return error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS)
    return True
