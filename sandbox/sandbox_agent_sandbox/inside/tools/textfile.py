"""Reading and replacing regular files. Nothing here hangs on a file, or reads without a bound."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sandbox_agent_sandbox.inside.worker.tool_result import ToolError

_PROBE = 8192
"""A file is binary when a NUL is among its first bytes, this many, as in git and grep."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_SECOND_FILE_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV}


@contextmanager
def explain_os_errors(action: str, path: str) -> Iterator[None]:
    """Turn an OSError into a ToolError: `cannot read 'a/b': Permission denied`."""
    try:
        yield
    except OSError as error:
        raise ToolError(f"cannot {action} {path!r}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL byte, a lone surrogate
        raise ToolError(f"cannot {action} {path!r}: it is not a valid path ({error})") from error


def check_regular(path: str, mode: int) -> None:
    """Raise ToolError unless `mode`, of stat(2), is a regular file's."""
    if stat.S_ISDIR(mode):
        raise ToolError(f"{path!r} is a folder; list_files shows what is in it")
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise ToolError(f"{path!r} is {kind}, not a regular file")


def open_regular(path: str) -> int:
    """A descriptor for reading a regular file.

    It is checked before it is opened, because opening a FIFO or a device has effects. It is opened
    with O_NONBLOCK and checked again, because it may have been replaced meanwhile.
    """
    with explain_os_errors("read", path):
        check_regular(path, os.stat(path).st_mode)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        check_regular(path, os.fstat(fd).st_mode)
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_binary(fd: int) -> bool:
    """Whether the file looks binary. Does not move the descriptor's position."""
    return b"\0" in os.pread(fd, _PROBE, 0)


def check_text(path: str, fd: int) -> None:
    """Raise ToolError for a binary file."""
    if is_binary(fd):
        raise ToolError(f"{path!r} is a binary file of {os.fstat(fd).st_size} bytes")


def read_whole(path: str, limit: int) -> bytes:
    """A text file's bytes. Raises ToolError for a binary file, or for more than `limit` bytes."""
    fd = open_regular(path)
    try:
        with explain_os_errors("read", path):
            check_text(path, fd)
            data = bytearray()
            while len(data) <= limit:  # stat(2) may give a wrong size, as in /proc
                chunk = os.read(fd, 1 << 20)
                if not chunk:
                    return bytes(data)
                data += chunk
    finally:
        os.close(fd)
    raise ToolError(
        f"{path!r} has more than {limit} bytes, too many to edit here; use a shell command"
    )


def replace_file(path: str, data: bytes) -> bool:
    """Write a file so that every reader sees either all of the old content or all of the new.

    It follows symbolic links and keeps the mode. Where a second file in the folder is refused (the
    folder is read-only, or the file itself is a mount point), it writes the file in place.
    Returns whether the file is new. Raises ToolError.
    """
    with explain_os_errors("write", path):
        target = os.path.realpath(path)
        try:
            mode = os.stat(target).st_mode
        except FileNotFoundError:
            mode = None
        if mode is not None:
            check_regular(path, mode)
            # A replacement needs no permission on the file itself; a read-only file stays as it is.
            if not os.access(target, os.W_OK):
                raise ToolError(f"cannot write {path!r}: it is read-only")
        beside = os.path.join(os.path.dirname(target), f".tmp-{secrets.token_hex(8)}")
        try:
            _write(beside, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, data, mode)
            os.replace(beside, target)
        except OSError as error:
            # Only where the second file was refused: on a full disk, writing in place would fail
            # as well, and destroy the old content.
            if mode is None or error.errno not in _SECOND_FILE_REFUSED:
                raise
            _write(target, os.O_TRUNC | os.O_NONBLOCK, data, None)
        finally:
            with suppress(OSError):  # normally renamed by now; but SIGTERM may raise at any point
                os.unlink(beside)
    return mode is None


def _write(path: str, flags: int, data: bytes, mode: int | None) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if mode is not None:
            os.fchmod(fd, stat.S_IMODE(mode))
    finally:
        os.close(fd)
