"""Reserves room on the disk behind the end of a file, so that it can grow on a full disk.

The blocks belong to the file at once, but its length stays: fallocate(2), FALLOC_FL_KEEP_SIZE. So
no other program gets them, and a reader sees nothing of them. To cut the file at its end frees
them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct

_RESERVE = 0x40305828
"""FS_IOC_RESVSP: the kernel's own name for that fallocate(2), for every file system that has it
(fs/ioctl.c). Python has no other way to it without ctypes, which takes 5 ms to import."""
_SPACE = "hhxxxxqqiI4i"
"""`struct space_resv`: type, whence (0: from the beginning), start, length, and padding."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def reserve(fd: int, start: int, length: int) -> bool:
    """Reserve room for these bytes of a file. Returns False where that is not possible: some file
    systems cannot, and the file goes on without.

    Raises OSError if the disk is full, or the user's part of it.
    """
    try:
        fcntl.ioctl(fd, _RESERVE, struct.pack(_SPACE, 0, 0, start, length, 0, 0, 0, 0, 0, 0))
    except OSError as error:
        if error.errno in _FULL:
            raise
        return False
    return True


def give_back(fd: int) -> None:
    """Free what is reserved behind the end of a file. Some disks take milliseconds for that."""
    with contextlib.suppress(OSError):
        os.ftruncate(fd, os.fstat(fd).st_size)
