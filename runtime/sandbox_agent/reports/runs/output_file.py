"""The whole output of a call: from its file, if it was too long for the journal.

A run folder may be a copy that somebody else made, so its journal is not trusted with paths: the
file must lie in the folder of outputs, and no link is followed.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sandbox_agent.journal.folder import OUTPUT_FOLDER

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


def whole_output(folder: Path, output_file: str) -> bytes:
    """The content of an output file. output_file: as the journal names it. Raises OSError if there
    is no such file, or if it is not one of this run's outputs."""
    parts = Path(output_file).parts
    if len(parts) != 2 or parts[0] != OUTPUT_FOLDER or parts[1] == ".." or "\0" in parts[1]:
        raise FileNotFoundError(2, "it is not in the folder of outputs", output_file)
    run = os.open(folder, _FOLDER)
    try:
        outputs = os.open(OUTPUT_FOLDER, _FOLDER | os.O_NOFOLLOW, dir_fd=run)
    finally:
        os.close(run)
    try:
        fd = os.open(parts[1], _FILE, dir_fd=outputs)
    finally:
        os.close(outputs)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(2, "it is no ordinary file", output_file)
    with open(fd, "rb") as file:
        return file.read()
