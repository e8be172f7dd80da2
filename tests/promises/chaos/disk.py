"""A small file system of its own, which can be frozen. Needs root."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

_FIFREEZE, _FITHAW = 0xC0045877, 0xC0045878
"""ioctl_fsfreeze(2): _IOWR('X', 119, int) and _IOWR('X', 120, int)."""

_SIZE = 16 << 20


class CannotMount(Exception):
    """This machine has no loop device, or no mkfs.ext4."""


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[None]:
    """An ext4 in a file of its own, mounted on `folder`. Raises CannotMount."""
    image = folder.with_name(f"{folder.name}.image")
    with open(image, "wb") as file:
        file.truncate(_SIZE)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotMount(str(error)) from error
    try:
        (folder / "lost+found").rmdir()
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """While this is entered, whoever writes to the file system of `folder` waits in state D."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(fd, _FIFREEZE, 0)
        try:
            yield
        finally:
            fcntl.ioctl(fd, _FITHAW, 0)
    finally:
        os.close(fd)
