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
from collections.abc import Iterable, Iterator, Sequence

from sandbox_agent_sandbox.inside.kernel import syscalls

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Exchanged(OSError):
    """A path that does not lead to what it led to when the sandbox was planned."""

    hint = "another program changed it while the sandbox was built: run again, or look for it"


def copy_trees(binds: Sequence[tuple[str, tuple[int, int] | None]]) -> Iterator[int]:
    """Detached copies of the mounts at paths of the host, as descriptors.

    binds: each a path, and the device and inode that must be there; None for any. Raises Exchanged,
    and OSError.
    """
    top = os.open("/", _FOLDER)
    try:
        for path, known in binds:
            fd = _find(top, path)
            try:
                if known is not None:
                    status = os.fstat(fd)
                    if (status.st_dev, status.st_ino) != known:
                        raise Exchanged(errno.ESTALE, f"{path} is now another file or folder")
                yield syscalls.open_tree_of(fd)
            finally:
                os.close(fd)
    finally:
        os.close(top)


class Places:
    """Where init mounts things: below a root folder of its own.

    root: the folder; "" for /. exposed: folders in there that tools of another run may be writing.
    A path below one is found anew, without links. Elsewhere only init makes folders, so a path
    means what it says, and takes less time.
    """

    def __init__(self, root: str, exposed: Iterable[str]) -> None:
        self._root = root
        self._exposed = tuple(f"{folder}/" for folder in exposed)
        # The host's /tmp, over which the root is built, may be a link.
        self._top = os.open(root or "/", _FOLDER & ~os.O_NOFOLLOW)

    def close(self) -> None:
        """Close its descriptor."""
        os.close(self._top)

    def attach(self, tree: int, path: str) -> None:
        """Mount a detached tree at a place, which is made if it is not there. Closes `tree`."""
        is_folder = stat.S_ISDIR(os.fstat(tree).st_mode)
        if path.startswith(self._exposed):
            self._move(tree, path)
        else:
            target = self._root + path
            if is_folder:
                os.makedirs(target, exist_ok=True)
            elif not os.path.lexists(target):
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC))
            syscalls.move_mount(tree, target)
        os.close(tree)

    def cover(self, source: str, path: str) -> None:
        """Mount a file or folder of init's own over a place."""
        if path.startswith(self._exposed):
            tree = syscalls.open_tree(source)
            try:
                self._move(tree, path)
            finally:
                os.close(tree)
        else:
            syscalls.mount(source, self._root + path, None, syscalls.MS_BIND)

    def pin(self, path: str) -> None:
        """Make a folder a mount point, which cannot be renamed or removed (EBUSY, rename(2)). What
        is mounted below it stays there."""
        if path.startswith(self._exposed):
            fd = _find(self._top, path)
            tree = -1
            try:
                tree = syscalls.open_tree_of(fd)
                syscalls.move_mount_onto(tree, fd)
            finally:
                os.close(fd)
                if tree >= 0:
                    os.close(tree)
        else:
            target = self._root + path
            os.makedirs(target, exist_ok=True)
            syscalls.mount(target, target, None, syscalls.MS_BIND | syscalls.MS_REC)

    def _move(self, tree: int, path: str) -> None:
        fd = _find(self._top, path)
        try:
            syscalls.move_mount_onto(tree, fd)
        finally:
            os.close(fd)


def _find(top: int, path: str) -> int:
    """A descriptor of what is below the folder `top`. path: absolute, taken as starting there."""
    try:
        return syscalls.open_beneath(top, path.lstrip("/") or ".")
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise Exchanged(errno.ELOOP, f"{path} is now a link, or lies below one") from None
