"""Small files, such as those of /proc, without `pathlib`: its import is a part of each start."""

from __future__ import annotations

import os


def read_bytes(path: str) -> bytes:
    """The whole file. Raises OSError."""
    with open(path, "rb") as file:
        return file.read()


def read_text(path: str) -> str:
    """The whole file, as UTF-8. Raises OSError."""
    return read_bytes(path).decode(errors="surrogateescape")


def write_text(path: str, text: str) -> None:
    """Write to a file that is there, in one write(2): that is how the kernel takes id maps.
    user_namespaces(7). Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
