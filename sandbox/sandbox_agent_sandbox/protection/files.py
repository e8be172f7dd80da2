"""Opens files of a folder that tools can write: never through a link, and nothing but files.

Each component is opened by the descriptor of the one before. So nothing can be put in its place
meanwhile, and the path never leads out of the folder where it begins.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_ENTER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FIND = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@contextmanager
def folder_at(root: str, path: str) -> Iterator[int]:
    """A descriptor of a folder below `root`, an absolute path. path: absolute. Raises OSError, also
    for a link on the way."""
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        below = os.path.relpath(path, root)
        for name in below.split("/") if below != "." else ():
            if name == "..":
                raise NotADirectoryError(f"{path} is not below {root}")
            inner = os.open(name, _ENTER, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def read_at(folder: int, name: str, most: int) -> tuple[bytes, os.stat_result]:
    """The content of a regular file, and what it is. Raises OSError; ValueError if it is no regular
    file, or has more than `most` bytes."""
    fd = _open_regular(name, folder)
    try:
        return _read(fd, most)
    finally:
        os.close(fd)


def read_start_at(folder: int, name: str, count: int) -> bytes:
    """The first bytes of a regular file; b"" if there is none."""
    with suppress(OSError, ValueError):
        fd = _open_regular(name, folder)
        try:
            return os.read(fd, count)
        finally:
            os.close(fd)
    return b""


def read_regular(path: str, most: int) -> bytes | None:
    """The content of a regular file; None if there is none, or it has more than `most` bytes."""
    with suppress(OSError, ValueError):
        fd = _open_regular(path)
        try:
            return _read(fd, most)[0]
        finally:
            os.close(fd)
    return None


def _open_regular(name: str, folder: int | None = None) -> int:
    """Open a regular file for reading. Raises OSError, also for a link; ValueError if it is no
    regular file, or if the name has a NUL character.

    What it is, is asked of a descriptor with O_PATH, which opens nothing: the open(2) of a device
    can do something (a watchdog begins to count), and that of a named pipe waits for a writer.
    """
    found = os.open(name, _FIND, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise ValueError("it is no regular file")
        return os.open(f"/proc/self/fd/{found}", _READ)
    finally:
        os.close(found)


def _read(fd: int, most: int) -> tuple[bytes, os.stat_result]:
    status = os.fstat(fd)
    if status.st_size > most:
        raise ValueError(f"it has more than {most} bytes")
    parts, size = [], 0
    while size <= most and (part := os.read(fd, most + 1 - size)):
        parts.append(part)
        size += len(part)
    if size > most:
        raise ValueError("it grows")
    return b"".join(parts), status


def replace_at(folder: int, name: str, data: bytes, like: os.stat_result, lock: str) -> None:
    """Replace a file by one with this content, and the owner and mode of `like`.

    lock: the name of the new file until it gets its own. Raises FileExistsError if it is there.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(lock, flags, 0o600, dir_fd=folder)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if os.geteuid() == 0:
                os.fchown(fd, like.st_uid, like.st_gid)
            os.fchmod(fd, stat.S_IMODE(like.st_mode) & 0o777)
        os.rename(lock, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(lock, dir_fd=folder)
        raise
