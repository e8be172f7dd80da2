"""A second file that takes the place of the first: a reader sees all of the old content or all of
the new.

Programs that do not lock the file are noticed. The content is compared before the rename. A read
lease, fcntl(2), tells whether a program has the file open for writing, and lets none begin. The
rename is an exchange, so that what was replaced can be looked at, and put back.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Callable
from contextlib import suppress

from sandbox_agent_sandbox.inside.kernel import syscalls
from sandbox_agent_sandbox.inside.tools.seen import (
    FLAGS,
    PATIENCE,
    Busy,
    Changed,
    Seen,
    inode_of,
    lease_holds,
    sigterm_later,
    take_lease,
    write_at,
)
from sandbox_agent_sandbox.temporary_files import new_name

_NOT_SUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY}
_EXCHANGES = 100

_GET_FLAGS = 0x80006601 | struct.calcsize("l") << 16
"""FS_IOC_GETFLAGS"""
_SETTABLE_FLAGS = 0x008380FF
"""FS_FL_USER_MODIFIABLE and FS_NOCOW_FL. The others are how the file system stores the file."""


class _Temporary:
    """A new file in a folder. It has no name until `give_name`, where the file system can that."""

    def __init__(self, folder: int, data: bytes) -> None:
        self._folder = folder
        self.name = ""
        try:
            self.fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=folder)
        except OSError as error:
            if error.errno not in {*_NOT_SUPPORTED, errno.EISDIR, errno.ENOENT}:
                raise
            self._open_named()
        else:
            if not os.path.lexists(f"/proc/self/fd/{self.fd}"):  # no /proc, no way to a name
                os.close(self.fd)
                self._open_named()
        try:
            write_at(self.fd, data)
        except BaseException:
            self.close()
            raise

    def _open_named(self) -> None:
        name = new_name()
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        self.fd = os.open(name, flags | FLAGS, 0o666, dir_fd=self._folder)
        self.name = name
        self._lock()

    def _lock(self) -> None:
        """Whoever finds the name knows by the lock that it is in use."""
        with suppress(OSError):
            fcntl.flock(self.fd, fcntl.LOCK_EX)

    def link(self, name: str) -> None:
        """Give it a name that no file has. Raises FileExistsError."""
        source = self.name or f"/proc/self/fd/{self.fd}"
        os.link(
            source,
            name,
            src_dir_fd=self._folder,  # an absolute path ignores it
            dst_dir_fd=self._folder,
            follow_symlinks=not self.name,
        )

    def give_name(self) -> None:
        """Give it a name of its own."""
        if not self.name:
            name = new_name()
            self._lock()
            self.link(name)
            self.name = name

    def close(self) -> None:
        os.close(self.fd)
        if self.name:
            with suppress(OSError):
                os.unlink(self.name, dir_fd=self._folder)


def create(folder: int, name: str, data: bytes) -> None:
    """Make a file that is not there. Raises Changed when another program was first."""
    with sigterm_later():
        temporary = _Temporary(folder, data)
        try:
            temporary.link(name)
        except FileExistsError:
            raise Changed from None
        except OSError:
            # A file system without hard links.
            temporary.give_name()
            try:
                syscalls.renameat2(folder, temporary.name, name, syscalls.RENAME_NOREPLACE)
            except FileExistsError:
                raise Changed from None
            except OSError as error:
                if error.errno not in _NOT_SUPPORTED:
                    raise
                os.rename(temporary.name, name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            temporary.close()


def replace(folder: int, name: str, seen: Seen, old: bytes | None, data: bytes) -> str:
    """Put a second file in the file's place. Returns "", or why it has to be written in place."""
    with sigterm_later():
        temporary = _Temporary(folder, data)
        try:
            status = os.fstat(temporary.fd)
            if status.st_gid != seen.status.st_gid:
                with suppress(OSError):
                    os.fchown(temporary.fd, -1, seen.status.st_gid)
            with suppress(OSError):
                os.fchmod(temporary.fd, stat.S_IMODE(seen.status.st_mode))
            status = os.fstat(temporary.fd)
            if (status.st_uid, status.st_gid) != (seen.status.st_uid, seen.status.st_gid):
                return "a new file would have another owner or group"
            if status.st_mode != seen.status.st_mode:
                return "a new file would have another mode"
            if _flags(temporary.fd) != _flags(seen.fd):
                return "a new file would have other flags (chattr)"
            leased = take_lease(seen.fd, fcntl.F_RDLCK)
            if leased is False:
                if seen.waited < PATIENCE:
                    raise Busy
                return "a program has it open for writing"

            def unchanged() -> bool:
                # A lease that holds has kept everybody from writing.
                content = None if leased else old
                return (not leased or lease_holds(seen.fd)) and seen.is_unchanged(content)

            if not seen.is_unchanged(old) or not unchanged():
                raise Changed
            temporary.give_name()
            try:
                _exchange(folder, name, temporary, seen, unchanged)
            except OSError as error:
                if error.errno not in _NOT_SUPPORTED:
                    raise
                if inode_of(folder, name) != seen.inode or not unchanged():
                    raise Changed from None
                os.rename(temporary.name, name, src_dir_fd=folder, dst_dir_fd=folder)
        except FileNotFoundError:
            raise Changed from None
        finally:
            temporary.close()
    return ""


def _exchange(
    folder: int, name: str, temporary: _Temporary, seen: Seen, unchanged: Callable[[], bool]
) -> None:
    """Exchange the names of the two files, and look at what was replaced. If that is not what was
    seen, exchange them again and raise Changed."""

    def exchange() -> tuple[int, int] | None:
        syscalls.renameat2(folder, temporary.name, name, syscalls.RENAME_EXCHANGE)
        return inode_of(folder, temporary.name)

    there = inode_of(folder, temporary.name)
    came = exchange()
    if came == seen.inode and unchanged():
        return
    # Others wrote `came`: put it back. If the exchange brings not our file but yet another one,
    # that is the newest, and is put back in turn.
    for _ in range(_EXCHANGES):
        put, came = came, exchange()
        if came == there:
            break
        there = put
    raise Changed


def _flags(fd: int) -> int:
    """The file's flags, as far as chattr(1) sets them; 0 where there are none. ioctl_iflags(2)"""
    try:
        [flags] = struct.unpack("l", fcntl.ioctl(fd, _GET_FLAGS, bytes(struct.calcsize("l"))))
    except OSError:
        return 0
    return int(flags) & _SETTABLE_FLAGS
