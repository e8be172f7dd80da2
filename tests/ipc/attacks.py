"""A hostile child: tries to change the cancel board in every way it knows.

    python -I attacks.py FD UID

Each attack is made on the board, and on an ordinary memfd, to show that it works where nothing is
sealed. Prints JSON: attack -> {twin: changed or the error, board: the same}.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import sys
from collections.abc import Callable

SIZE = 4096
DIRT = b"\xff" * 8
PR_SET_DUMPABLE = 4
PUNCH_HOLE_KEEP_SIZE = 3
MADV_REMOVE = 9

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
for _function in (libc.mprotect, libc.madvise):
    _function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64,
]  # fmt: skip


def check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def read_only_mapping(fd: int) -> int:
    address = libc.mmap(None, SIZE, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "the read-only mapping itself was refused")
    return int(address)


def write(fd: int) -> None:
    os.pwrite(fd, DIRT, 0)


def write_mapping(fd: int) -> None:
    with mmap.mmap(fd, SIZE) as page:
        page[:8] = DIRT


def unprotect(fd: int) -> None:
    address = read_only_mapping(fd)
    check(libc.mprotect(address, SIZE, mmap.PROT_READ | mmap.PROT_WRITE))
    ctypes.memmove(address, DIRT, 8)


def remove_page(fd: int) -> None:
    """As madvise(2) has it: needs a shared mapping that may be made writable."""
    address = read_only_mapping(fd)
    if fd_is_writable_mapping(fd):
        check(libc.mprotect(address, SIZE, mmap.PROT_READ | mmap.PROT_WRITE))
    check(libc.madvise(address, SIZE, MADV_REMOVE))


def fd_is_writable_mapping(fd: int) -> bool:
    return not fcntl.fcntl(fd, fcntl.F_GET_SEALS)


def reopen(fd: int) -> None:
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    os.pwrite(again, DIRT, 0)


def reopen_and_map(fd: int) -> None:
    write_mapping(os.open(f"/proc/self/fd/{fd}", os.O_RDWR))


def reopen_and_truncate(fd: int) -> None:
    os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_TRUNC)


def shrink(fd: int) -> None:
    os.ftruncate(fd, 0)


def grow(fd: int) -> None:
    os.ftruncate(fd, 2 * SIZE)


def punch(fd: int) -> None:
    check(libc.fallocate(fd, PUNCH_HOLE_KEEP_SIZE, 0, SIZE))


def chmod_then_write(fd: int) -> None:
    os.fchmod(fd, 0o666)
    reopen(fd)


def add_seal(fd: int) -> None:
    """Not harmless: F_SEAL_WRITE, say, would keep later hosts from mapping it."""
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)


def copy_into(fd: int) -> None:
    source = twin()
    os.lseek(fd, 0, os.SEEK_SET)
    os.pwrite(source, DIRT, 0)
    os.sendfile(fd, source, 0, 8)


ATTACKS: list[Callable[[int], None]] = [
    write, write_mapping, unprotect, remove_page, reopen, reopen_and_map, reopen_and_truncate,
    shrink, grow, punch, chmod_then_write, add_seal, copy_into,
]  # fmt: skip


def twin() -> int:
    fd = os.memfd_create("twin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, b"\x01" * SIZE)
    return fd


def state(fd: int) -> tuple[int, bytes, int]:
    seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    return os.fstat(fd).st_size, os.pread(fd, 2 * SIZE, 0), seals


def attempt(attack: Callable[[int], None], fd: int) -> str:
    before = state(fd)
    try:
        attack(fd)
    except OSError as error:
        outcome = errno.errorcode[error.errno or 0]
    else:
        outcome = "no error"
    return "changed" if state(fd) != before else outcome


def main() -> None:
    board, uid = int(sys.argv[1]), int(sys.argv[2])
    if uid != os.geteuid():
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        # Changing the uid took /proc/self away from us; a hostile process takes it back.
        libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    outcomes = {
        attack.__name__: {"twin": attempt(attack, twin()), "board": attempt(attack, board)}
        for attack in ATTACKS
    }
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
