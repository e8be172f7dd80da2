"""Reads and writes files inside the walls, for `inspect_environment`. Standard library only.

The content goes through standard input and output, which hold any bytes of any length. What a
function returns says how it ended: nothing, or the number of an error (errno(3)).
"""

from __future__ import annotations

import errno
import os
import shutil


def read_file(path: str, most: int) -> str:
    """Writes the file to standard output. most: bytes; a longer file is EFBIG."""
    try:
        with open(path, "rb") as file, open(1, "wb", closefd=False) as output:
            if os.fstat(file.fileno()).st_size > most:
                return str(errno.EFBIG)
            shutil.copyfileobj(file, output, 1 << 20)
    except OSError as error:
        return str(error.errno)
    return ""


def write_file(path: str) -> str:
    """Writes standard input to the file, and makes the folders above it."""
    try:
        if folder := os.path.dirname(path):
            os.makedirs(folder, exist_ok=True)
        with open(0, "rb", closefd=False) as given, open(path, "wb") as file:
            shutil.copyfileobj(given, file, 1 << 20)
    except OSError as error:
        return str(error.errno)
    return ""
