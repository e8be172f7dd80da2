"""What one sandbox keeps on the disk, from its first message to its removal.

`inside/walls/private.py` makes it. An image ends with its last descriptor. A folder has a lock as
long as the sandbox or the host lives; one without a lock was left by a host that was killed.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from contextlib import suppress

from sandbox_agent_ipc.after_fork import call_after_fork

from sandbox_agent_sandbox.inside.kernel.remove_tree import remove_tree

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_FLUSH = struct.pack("I", 2)

_MUCH = 32 * 2**20
"""Bytes in an image that are worth dropping. The kernel logs that they were."""

_LITTLE = 128 * 2**10
"""A file system with less room than this is full: a small file does not fit."""

_LEFT_FILE = r"image-.*|ext4-.*\..*"
"""Of files that a killed spawner was making: they have a name for a moment only."""


class Area:
    """What one sandbox keeps on the disk.

    folder: a descriptor of it, which is closed in a forked child: its lock must not live there.
    path: where it is; "" for an image.
    """

    def __init__(self, folder: int, path: str = "") -> None:
        self.folder = folder
        self.path = path
        call_after_fork(self)

    @property
    def is_full(self) -> bool:
        """Whether an image has no room or no inodes left."""
        if self.path or self.folder < 0:
            return False
        try:
            now = os.statvfs(self.folder)
        except OSError:
            return False
        return now.f_bavail * now.f_frsize < _LITTLE or now.f_favail == 0

    def remove(self) -> None:
        """Remove it, after the last process of the sandbox. Idempotent. May take seconds."""
        if self.folder < 0:
            return
        with suppress(OSError):  # what stays is removed at the next start
            if self.path:
                base, name = os.path.split(self.path)
                _remove(base, name)
            else:
                self._forget_what_is_not_written()
        self._let_go()

    def _forget_what_is_not_written(self) -> None:
        """Else the kernel writes an image to the disk before it frees it."""
        now = os.statvfs(self.folder)
        if (now.f_blocks - now.f_bfree) * now.f_frsize > _MUCH:
            fcntl.ioctl(self.folder, _EXT4_IOC_SHUTDOWN, _NO_FLUSH)

    def _let_go(self) -> None:
        folder, self.folder = self.folder, -1
        if folder >= 0:
            with suppress(OSError):
                os.close(folder)

    after_fork_in_child = __del__ = _let_go


def remove_leftovers(base: str) -> None:
    """Remove what sandboxes of killed hosts have left in a folder."""
    names = []
    try:
        with os.scandir(base) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    names.append(entry.name)
                elif re.fullmatch(_LEFT_FILE, entry.name):
                    os.unlink(entry.path)
    except OSError:
        return
    for name in names:
        with suppress(OSError):  # it is going, or goes away
            folder = os.open(f"{base}/{name}", _FOLDER)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(base, name)
            finally:
                os.close(folder)
    with suppress(OSError):
        os.rmdir(base)


def _remove(base: str, name: str) -> None:
    above = os.open(base, _FOLDER)
    try:
        remove_tree(name, above)
    finally:
        os.close(above)
    with suppress(OSError):  # another sandbox has something there
        os.rmdir(base)
