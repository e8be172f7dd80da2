"""Reading regular files. Nothing here hangs on a file, or reads without a bound."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from sandbox_agent_sandbox.inside.worker.call_facts import workspace
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


@contextmanager
def explain_os_errors(action: str, path: str) -> Iterator[None]:
    """Turn an OSError into a ToolError: `cannot read 'a/b': Permission denied`."""
    try:
        yield
    except OSError as error:
        where = ""
        if action == "write" and error.errno == errno.EROFS:
            where = f"; you can write in the workspace, {workspace()}"
        raise ToolError(f"cannot {action} {path!r}: {error.strerror or error}{where}") from error
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


def read_text(fd: int, path: str, limit: int) -> bytes:
    """A text file's bytes, from the descriptor's position on. Raises ToolError for a binary file,
    or for more than `limit` bytes."""
    check_text(path, fd)
    data = bytearray()
    while len(data) <= limit:  # stat(2) may give a wrong size, as in /proc
        chunk = os.read(fd, 1 << 20)
        if not chunk:
            return bytes(data)
        data += chunk
    raise ToolError(
        f"{path!r} has more than {limit} bytes, too many to edit here; use a shell command"
    )


def shown(name: str) -> str:
    """A path as one printable line, whatever bytes it has."""
    plain = os.fsencode(name).decode(errors="backslashreplace")
    return plain if plain.isprintable() else plain.encode("unicode_escape").decode()


def leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Whether a name is a folder, or a link to one. A link in a circle, or one whose target cannot
    be looked at, is none: is_dir() raises OSError for it."""
    try:
        return entry.is_dir()
    except OSError:
        return False
