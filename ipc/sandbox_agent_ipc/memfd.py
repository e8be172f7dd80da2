"""Anonymous memory that can be passed by descriptor and sealed. See memfd_create(2), fcntl(2)."""

from __future__ import annotations

import errno
import fcntl
import os

# Python 3.11 has neither of these two names.
F_SEAL_FUTURE_WRITE = 0x10
MFD_NOEXEC_SEAL = 0x8

F_SEAL_SEAL = fcntl.F_SEAL_SEAL
F_SEAL_SHRINK = fcntl.F_SEAL_SHRINK
F_SEAL_GROW = fcntl.F_SEAL_GROW
F_SEAL_WRITE = fcntl.F_SEAL_WRITE


def create(name: str) -> int:
    """A new, empty, sealable memfd, close-on-exec. name: shown in /proc/PID/fd, nothing more."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        # Never executable, and chmod cannot make it so. Hosts with vm.memfd_noexec=2 insist on it.
        return os.memfd_create(name, flags | MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # before Linux 6.3
            raise
        return os.memfd_create(name, flags)


def add_seals(fd: int, seals: int) -> None:
    """Seals for ever. Raises OSError: EBUSY when a writable mapping forbids F_SEAL_WRITE."""
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)


def seals_of(fd: int) -> int:
    """The seals on a descriptor. Raises OSError (EINVAL) when it is no memfd."""
    return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
